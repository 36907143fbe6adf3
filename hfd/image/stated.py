"""Find the ICC profile of the colours that a picture's file states, in any of its forms."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from hfd.image.code_points import (
    BT709,
    CURVES,
    HDR_CURVES,
    PRIMARIES,
    SRGB_CURVE,
    UNSPECIFIED,
    VIDEO_CURVES,
    Curve,
    Primaries,
    grey_profile,
    rgb_profile,
)
from hfd.image.colour import fits_profile, note_of_profile
from hfd.image.notes import add_note
from hfd.image.png_parts import PNG_SIGNATURE, PngParts, read_png_parts

_SRGB = (1, 13)
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
_BT709_XY = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_GAMMA_OF_SRGB = 45_455
_GAMMAS = range(10_000, 1_000_001)
_XY_TOLERANCE, _GAMMA_TOLERANCE = 200, 500


def stated_profile(image: Image.Image, stream: BinaryIO, parts: PngParts | None) -> bytes | None:
    """Return the profile of a picture that Pillow opened from ``stream``; ``parts``: of a PNG. None: sRGB.

    An embedded profile is returned unchecked unless the file is a PNG.
    """
    if parts is not None:
        return _profile_of_png(parts)
    own = image.info.get("icc_profile")
    if isinstance(own, bytes) and own:
        return own
    if image.format in ("AVIF", "HEIF"):
        return _profile_of_bmff(stream, is_grey=image.mode in _GREY_MODES)
    return None


def profile_of_image(image: Image.Image) -> bytes | None:
    """As `stated_profile`, for an image that the caller opened or made with Pillow.

    Reads the file of a PNG or AVIF if it still exists."""
    with ExitStack() as stack:
        stream, at = getattr(image, "fp", None), 0
        if image.format in ("PNG", "AVIF", "HEIF"):
            if stream is None or getattr(stream, "closed", False):
                path = Path(getattr(image, "filename", None) or os.devnull)
                stream = stack.enter_context(path.open("rb")) if path.is_file() else None
            if stream is not None and stream.seekable():
                at = stream.tell()
                stack.callback(stream.seek, at)
                stream.seek(0)
                parts = read_png_parts(stream) if stream.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE else None
                return stated_profile(image, stream, parts)
        return _profile_of_info(image)


def _profile_of_info(image: Image.Image) -> bytes | None:
    """Return the profile by the entries that Pillow keeps of a PNG's chunks."""
    info = image.info
    own, gamma, x_y = info.get("icc_profile"), info.get("gamma"), info.get("chromaticity")
    if (isinstance(own, bytes) and own) or not isinstance(gamma, int | float):
        return own if isinstance(own, bytes) and own else None
    chromaticities = (
        tuple(round(100_000 * value) for value in x_y) if isinstance(x_y, tuple) and len(x_y) == 8 else None
    )
    is_grey = image.mode in _GREY_MODES
    stated = PngParts(is_grey, None, None, "srgb" in info, round(100_000 * gamma), chromaticities)
    return _profile_of_png(stated)


def _profile_of_png(parts: PngParts) -> bytes | None:
    """Return the profile of a PNG: cICP before iCCP, sRGB, and gAMA with cHRM (PNG, third edition); None: sRGB."""
    if parts.cicp is not None:
        primaries, transfer, _, is_full = parts.cicp
        if transfer in HDR_CURVES or _are_known(primaries, transfer):
            return _of_code_points(primaries, transfer, is_grey=parts.is_grey, is_narrow=is_full == 0)
        if UNSPECIFIED not in (primaries, transfer):
            add_note("colours", _unknown(primaries, transfer) + ". The file's other statements decide")
    if parts.icc is not None:
        if fits_profile(parts.icc, "L" if parts.is_grey else "RGB"):
            return parts.icc
        note_of_profile()
    if parts.is_srgb or parts.gamma is None:
        return None
    if parts.gamma not in _GAMMAS:
        add_note("colours", f"states a gamma of {parts.gamma / 100_000:g}, which is not valid; read as sRGB")
        return None
    return _of_gamma(parts.gamma, parts.chromaticities, is_grey=parts.is_grey)


def _of_gamma(gamma: int, chromaticities: tuple[int, ...] | None, *, is_grey: bool) -> bytes | None:
    is_like_srgb = abs(gamma - _GAMMA_OF_SRGB) <= _GAMMA_TOLERANCE
    is_bt709 = chromaticities is None or _near(chromaticities, _BT709_XY)
    if is_like_srgb and (is_bt709 or is_grey):
        return None  # common values of writers beside an sRGB chunk, or in place of it
    curve = Curve(100_000 / gamma)
    if is_grey:
        return grey_profile(curve)
    if is_bt709 or chromaticities is None:
        return rgb_profile(BT709, curve)
    x_y = [value / 100_000 for value in chromaticities]
    white, red, green, blue = ((x_y[i], x_y[i + 1]) for i in (0, 2, 4, 6))
    profile = rgb_profile(Primaries(white, red, green, blue), curve)
    if profile is None:
        add_note("colours", "states primaries (cHRM) that span no colours; those of sRGB are used")
        return _of_gamma(gamma, None, is_grey=False)
    return profile


def _near(got: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return all(abs(one - other) <= _XY_TOLERANCE for one, other in zip(got, expected, strict=True))


def _profile_of_bmff(stream: BinaryIO, *, is_grey: bool) -> bytes | None:
    """Return the profile of the nclx colours of an AVIF or HEIC file; None: sRGB.

    Video transfer curves are read as that of sRGB: most encoders write them for pictures in sRGB.
    """
    for primaries, transfer in _nclx(stream):
        transfer = 13 if transfer in (*VIDEO_CURVES, UNSPECIFIED) else transfer
        primaries = 1 if primaries == UNSPECIFIED else primaries
        if transfer in HDR_CURVES or _are_known(primaries, transfer):
            return _of_code_points(primaries, transfer, is_grey=is_grey, is_narrow=False)
        add_note("colours", _unknown(primaries, transfer) + "; read as sRGB")
    return None


def _are_known(primaries: int, transfer: int) -> bool:
    return primaries in PRIMARIES and transfer in CURVES


def _unknown(primaries: int, transfer: int) -> str:
    return f"states unsupported colours (primaries {primaries}, transfer {transfer})"


def _of_code_points(primaries: int, transfer: int, *, is_grey: bool, is_narrow: bool) -> bytes | None:
    if (name := HDR_CURVES.get(transfer)) is not None:
        add_note(
            "colours", f"states {name} (HDR) colours, which cannot be converted; read as sRGB. Give an SDR version"
        )
        return None
    if (primaries, transfer) == _SRGB and not is_narrow:
        return None
    curve = CURVES[transfer].of_narrow_range() if is_narrow else CURVES[transfer]
    if is_grey:
        return None if curve == SRGB_CURVE else grey_profile(curve)
    return rgb_profile(PRIMARIES[primaries], curve)


# --- ISO base media files (ISO/IEC 14496-12, 23008-12) ------------------------------------------

_MAX_META_BYTES = 2**22


def _nclx(stream: BinaryIO) -> list[tuple[int, int]]:
    """Return the primaries and transfer of a file's primary item; at most one pair."""
    try:
        return _nclx_of(_meta(stream))
    except (struct.error, IndexError, KeyError):
        return []


def _meta(stream: BinaryIO) -> bytes:
    at = 0
    while True:
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return b""
        size, kind = struct.unpack_from(">I4s", head)
        start = 8
        if size == 1:
            (size,), start = struct.unpack_from(">Q", head, 8), 16
        if kind == b"meta":
            stream.seek(at + start)
            return stream.read(min(size - start, _MAX_META_BYTES))
        if size < start:
            return b""
        at += size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        size = size or len(data) - at
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _nclx_of(meta: bytes) -> list[tuple[int, int]]:
    top = dict(_boxes(meta[4:]))
    primary = int.from_bytes(top[b"pitm"][4:], "big")
    properties = dict(_boxes(top[b"iprp"]))
    held = list(_boxes(properties[b"ipco"]))
    for index in _associated(properties[b"ipma"], primary):
        kind, body = held[index - 1]
        if kind == b"colr" and body[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return [(primaries, transfer)]
    return []


def _associated(ipma: bytes, item: int) -> list[int]:
    """Return the numbers, from 1, of an item's properties."""
    wide_ids, wide_indices = ipma[0] >= 1, ipma[3] & 1
    (entries,), at = struct.unpack_from(">I", ipma, 4), 8
    for _ in range(entries):
        (name,) = struct.unpack_from(">I" if wide_ids else ">H", ipma, at)
        at += 4 if wide_ids else 2
        count, at = ipma[at], at + 1
        form, mask = (">H", 0x7FFF) if wide_indices else (">B", 0x7F)
        size = struct.calcsize(form)
        if name == item:
            found = [struct.unpack_from(form, ipma, at + size * i)[0] & mask for i in range(count)]
            return [index for index in found if index > 0]
        at += size * count
    return []
