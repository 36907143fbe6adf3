"""Write PNG by strips, so that memory holds little beside the picture's array."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hfd.codec.picture.content import Picture
from hfd.codec.xmp import wrapped

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
STRIP_BYTES = 2**22
_GREY, _RGB, _ALPHA = 0, 2, 4
XMP_KEYWORD = "XML:com.adobe.xmp"

Bytes = npt.NDArray[np.uint8]


def png_chunks(picture: Picture) -> Iterator[bytes]:
    """Yield a picture's PNG in pieces (ISO/IEC 15948): 8 bits, grey or RGB, with its alpha and metadata if any.

    Each row uses the filter, of the five, whose result has the least sum of magnitudes, as the standard suggests.
    """
    rgb, extras = picture.rgb, picture.extras
    colour = (_GREY if picture.is_grey else _RGB) | (0 if extras.alpha is None else _ALPHA)
    yield _SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", picture.width, picture.height, 8, colour, 0, 0, 0))
    if extras.icc is not None:
        yield _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(extras.icc))
    if extras.exif is not None:
        yield _chunk(b"eXIf", extras.exif.removeprefix(b"Exif\0\0"))
    if extras.xmp is not None:
        yield _chunk(b"iTXt", XMP_KEYWORD.encode() + bytes(5) + wrapped(extras.xmp))
    channels = 1 if picture.is_grey else 3
    samples = channels if extras.alpha is None else channels + 1
    rows = max(1, STRIP_BYTES // (picture.width * samples))
    deflater = zlib.compressobj()
    above = np.zeros((1, picture.width * samples), dtype=np.uint8)
    for top in range(0, picture.height, rows):
        strip = rgb[top : top + rows, :, :channels]
        if extras.alpha is not None:
            strip = np.dstack([strip, extras.alpha[top : top + rows]])
        lines = strip.reshape(len(strip), -1)
        data = deflater.compress(_filtered(lines, above, samples).tobytes())
        above = lines[-1:]
        if data:
            yield _chunk(b"IDAT", data)
    yield _chunk(b"IDAT", deflater.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _filtered(lines: Bytes, above: Bytes, samples: int) -> Bytes:
    """Filter rows (H, W x samples); the filter's number precedes each row. ``above``: the row before them."""
    up = np.concatenate([above, lines[:-1]])
    left, corner = _moved(lines, samples), _moved(up, samples)
    mean = ((left.astype(np.int16) + up) >> 1).astype(np.uint8)
    candidates = [lines - predicted for predicted in (np.uint8(0), left, up, mean, _paeth(left, up, corner))]
    costs = [np.abs(one.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for one in candidates]
    kinds = np.argmin(costs, axis=0)
    out = np.empty((lines.shape[0], lines.shape[1] + 1), dtype=np.uint8)
    out[:, 0] = kinds
    for kind, one in enumerate(candidates):
        out[kinds == kind, 1:] = one[kinds == kind]
    return out


def _moved(lines: Bytes, samples: int) -> Bytes:
    """Each sample's neighbour to the left, 0 at the edge."""
    return np.pad(lines, ((0, 0), (samples, 0)))[:, : lines.shape[1]]


def _paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """Return the value nearest to left + up - corner of left, up and corner; ties in this order."""
    a, b, c = (one.astype(np.int16) for one in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    by_left = (to_left <= to_up) & (to_left <= to_corner)
    predicted: Bytes = np.where(by_left, left, np.where(to_up <= to_corner, up, corner))
    return predicted
