"""Generated pictures whose pixels are known by the rules of their formats, for ``readers.py``."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tests.support.tiff import Page, packed_page, page, tiff

Pixels: TypeAlias = npt.NDArray[np.uint8]

EXACT, LOSSY = 3.0, 6.0
"""Largest difference of a sample without loss, and mean difference with loss, in levels."""
_P3 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
"""Display P3 to sRGB, linear light."""


@dataclass(frozen=True)
class Case:
    """A file, ``kind`` in words, and ``expected``: uint8 (H, W, 3), sRGB, upright, over white.

    ``is_managed``: colours are stated and differ from sRGB, so that readers without colour management show others.
    """

    kind: str
    data: bytes
    expected: Pixels
    is_lossy: bool = False
    is_managed: bool = False

    def is_shown_by(self, x: Pixels) -> bool:
        """True if a decoded picture is the expected one, up to rounding or the loss of the format."""
        if x.shape != self.expected.shape:
            return False
        difference = np.abs(x.astype(np.int16) - self.expected)
        return bool(difference.mean() <= LOSSY if self.is_lossy else difference.max() <= EXACT)


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield ``count`` small pictures; the same for the same seed."""
    makers = [maker for maker, weight in _MAKERS for _ in range(weight)]
    for n in range(count):
        rng = np.random.default_rng([seed, n])
        yield makers[n % len(makers)](rng)


def large_cases(width: int = 4400, height: int = 4000) -> Iterator[Case]:
    """Yield pictures above the 16.8 megapixels from which on strips are read."""
    x = _photo(np.random.default_rng(0), height, width)
    grey = np.repeat(x[..., :1], 3, axis=2)
    yield Case("large PNG RGB", _saved(x, "PNG", compress_level=1), x)
    yield Case("large PNG grey", _saved(x[..., 0], "PNG", compress_level=1), grey)
    yield Case("large PNG RGB, 16 bits", _png(x.astype(np.uint16) * 257, 2, 16, level=1), x)
    yield Case("large JPEG RGB", _saved(x, "JPEG", quality=95, subsampling=0), x, is_lossy=True)
    yield Case("large JPEG grey, progressive", _saved(x[..., 0], "JPEG", quality=95, progressive=True), grey, True)
    yield Case("large TIFF RGB, LZW", _saved(x, "TIFF", compression="tiff_lzw"), x)
    yield Case("large TIFF RGB, planes of 16 bits", tiff(page(x.astype(np.uint16) * 257, 2, planar=True, rows=100)), x)
    yield Case("large TIFF RGB, deflate, big-endian", tiff(page(x, 2, deflate=True, order=">"), order=">"), x)
    yield Case("large PPM", _saved(x, "PPM"), x)


# --- sources ---------------------------------------------------------------------------------------


def _photo(rng: np.random.Generator, height: int | None = None, width: int | None = None) -> Pixels:
    """Gradients and a disc, of colours that are not saturated."""
    height = height or int(rng.integers(9, 60))
    width = width or int(rng.integers(9, 60))
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    ends = rng.uniform(70, 190, (3, 3))
    x = ends[0] + rows[..., None] * (ends[1] - ends[0]) + columns[..., None] * (ends[2] - ends[0])
    inside = (rows - 0.4) ** 2 + (columns - 0.5) ** 2 < 0.05
    x[inside] += 25
    return np.clip(x, 50, 215).round().astype(np.uint8)


def _choice(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _alpha(rng: np.random.Generator, x: Pixels) -> Pixels:
    plane = np.linspace(0, 255, x.shape[1])[None] + np.zeros((x.shape[0], 1))
    return plane.round().astype(np.uint8) if rng.random() < 0.7 else np.where(plane > 99, 255, 0).astype(np.uint8)


def _over_white(x: npt.NDArray[Any], alpha: Pixels) -> Pixels:
    a = alpha[..., None] / 255.0
    mixed: Pixels = (x * a + 255.0 * (1 - a)).round().astype(np.uint8)
    return mixed


def _grey3(x: npt.NDArray[Any]) -> Pixels:
    return np.repeat(x.astype(np.uint8)[..., None], 3, axis=2)


def _saved(x: Pixels, file_format: str, **options: Any) -> bytes:
    held = io.BytesIO()
    Image.fromarray(x).save(held, file_format, **options)
    return held.getvalue()


_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


def _exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "maker"
    return tags.tobytes()


def _orientation(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 9)) if rng.random() < 0.4 else 1


# --- PNG -------------------------------------------------------------------------------------------

_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(
    samples: npt.NDArray[Any], colour: int, bits: int, *, interlaced: bool = False, parts: bytes = b"", level: int = 6
) -> bytes:
    """By the standard (ISO/IEC 15948). Every second row has the filter Sub where samples are whole bytes."""
    x = samples[..., None] if samples.ndim == 2 else samples
    height, width, _ = x.shape
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    passes = [x[top::down, left::right] for top, left, down, right in _ADAM7] if interlaced else [x]
    lines = b"".join(_lines(one, bits) for one in passes if one.size)
    data = _chunk(b"IDAT", zlib.compress(lines, level))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + parts + data + _chunk(b"IEND", b"")


def _lines(x: npt.NDArray[Any], bits: int) -> bytes:
    height, _, channels = x.shape
    if bits < 8:
        planes = x[..., 0][..., None].astype(np.uint8) >> np.arange(bits)[::-1] & 1
        rows = np.packbits(planes.reshape(height, -1), axis=1)
    else:
        rows = x.astype(">u2" if bits == 16 else np.uint8).reshape(height, -1).view(np.uint8)
    out = np.zeros((height, rows.shape[1] + 1), np.uint8)
    out[:, 1:] = rows
    if bits >= 8:
        step = channels * bits // 8
        out[1::2, 0] = 1
        out[1::2, 1 + step :] = rows[1::2, step:] - rows[1::2, :-step]
    return out.tobytes()


def _decode_srgb(x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    v = x / 255.0
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _encode_srgb(light: npt.NDArray[np.float64]) -> Pixels:
    light = light.clip(0, 1)
    v = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (v * 255).round().astype(np.uint8)


def _colours(rng: np.random.Generator, x: Pixels) -> tuple[str, bytes, Pixels]:
    """A statement of colours, and what they are in sRGB."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gamma = int(_choice(rng, 45455, 55556, 100_000))
    shown = _encode_srgb((x / 255.0) ** (100_000 / gamma))
    of_gamma = _chunk(b"gAMA", struct.pack(">I", gamma))
    p3 = _encode_srgb(_decode_srgb(x) @ _P3.T)
    cicp = _chunk(b"cICP", bytes([12, 13, 0, 1]))
    iccp = _chunk(b"iCCP", b"p\0\0" + zlib.compress(srgb))
    return _choice(
        rng,
        (f", gAMA {gamma}", of_gamma, x if gamma == 45455 else shown),
        (", sRGB beside gAMA", _chunk(b"sRGB", b"\0") + of_gamma, x),
        (", cICP P3", cicp, p3),
        (", cICP before iCCP", iccp + cicp, p3),
        (", iCCP sRGB", iccp, x),
        (", damaged iCCP", _chunk(b"iCCP", b"p\0\0" + zlib.compress(srgb)[:-40]), x),
        (", long text", _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_200_000))), x),
        (", damaged text", _chunk(b"tEXt", b"Comment\0x")[:-1] + b"\0", x),
    )


def _png_case(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    grey, alpha = x[..., 0], _alpha(rng, x)
    interlaced = rng.random() < 0.3
    name, parts, expected = "", b"", x
    kind = _choice(rng, "grey", "grey", "RGB", "RGB", "palette", "palette", "grey+alpha", "RGBA")
    bits = int(_choice(rng, 8, 16))
    if kind == "grey":
        bits = int(_choice(rng, 1, 2, 4, 8, 16))
        samples = (grey.astype(np.uint16) * 257 >> (16 - bits)).astype(np.uint16)
        shown = (samples.astype(np.float64) * 255 / (2**bits - 1)).round()
        expected = _grey3(shown)
        if rng.random() < 0.3:
            key = int(samples[0, 0])
            name, parts = ", tRNS", _chunk(b"tRNS", struct.pack(">H", key))
            expected = np.where((samples == key)[..., None], 255, expected).astype(np.uint8)
        data = _png(samples, 0, bits, interlaced=interlaced, parts=parts)
    elif kind == "RGB":
        samples = x.astype(np.uint16) * (257 if bits == 16 else 1)
        if rng.random() < 0.5:
            name, parts, expected = _colours(rng, x)
        elif rng.random() < 0.4:
            key = samples[0, 0]
            name, parts = ", tRNS", _chunk(b"tRNS", struct.pack(">HHH", *map(int, key)))
            expected = np.where((samples == key).all(axis=2)[..., None], 255, x).astype(np.uint8)
        orientation = _orientation(rng)
        if orientation > 1:
            parts += _chunk(b"eXIf", _exif(orientation).removeprefix(b"Exif\0\0"))
            name += ", turned"
        data = _png(samples, 2, bits, interlaced=interlaced, parts=parts)
        is_managed = bool((expected != x).any()) and "tRNS" not in name
        return Case(f"PNG RGB, {bits} bits{name}", data, _TURNS[orientation](expected), is_managed=is_managed)
    elif kind == "palette":
        bits = int(_choice(rng, 1, 2, 4, 8))
        count = 2**bits
        table = rng.integers(0, 256, (count, 3), dtype=np.uint8)
        samples = (grey.astype(np.int64) * count // 256).astype(np.uint16)
        parts, expected = _chunk(b"PLTE", table.tobytes()), table[samples]
        if rng.random() < 0.4:
            opacity = rng.integers(0, 256, count, dtype=np.uint8)
            name, parts = ", tRNS", parts + _chunk(b"tRNS", opacity.tobytes())
            expected = _over_white(expected, opacity[samples])
        data = _png(samples, 3, bits, interlaced=interlaced, parts=parts)
    else:
        scale = 257 if bits == 16 else 1
        colour = grey[..., None] if kind == "grey+alpha" else x
        samples = np.dstack([colour, alpha]).astype(np.uint16) * scale
        expected = _over_white(np.repeat(colour, 3, axis=2)[..., :3] if kind == "grey+alpha" else x, alpha)
        data = _png(samples, 4 if kind == "grey+alpha" else 6, bits, interlaced=interlaced)
    return Case(f"PNG {kind}, {bits} bits{name}{', interlaced' * interlaced}", data, expected)


# --- JPEG, WebP, AVIF --------------------------------------------------------------------------------

_SEGMENTS = (
    ("", b""),
    ("", b""),
    ("", b""),
    (", short JFIF", b"\xff\xe0\0\6JFIF"),
    (", short ICC part", b"\xff\xe2\0\x0eICC_PROFILE\0"),
    (", damaged Photoshop part", b"\xff\xed\0\x16Photoshop 3.0\x008BIM\4\4"),
    (", damaged EXIF", b"\xff\xe1\0\x10Exif\0\0junkjunk"),
    (", damaged MPF", b"\xff\xe2\0\x0aMPF\0junk"),
)


def _jpeg_case(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    mode = _choice(rng, "grey", "RGB", "RGB", "RGB")
    options: dict[str, Any] = {"quality": int(rng.integers(85, 100)), "progressive": bool(rng.random() < 0.4)}
    if mode == "RGB":
        options["subsampling"] = int(rng.integers(0, 3))
    orientation = _orientation(rng)
    if orientation > 1:
        options["exif"] = _exif(orientation)
    if rng.random() < 0.2:
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        if mode == "grey":
            del options["icc_profile"]
    source = x[..., 0] if mode == "grey" else x
    data = _saved(source, "JPEG", **options)
    name, segment = _choice(rng, *_SEGMENTS)
    if "EXIF" in name and orientation > 1:
        name, segment = "", b""
    data = data[:2] + segment + data[2:]
    expected = _grey3(source) if mode == "grey" else x
    words = f"JPEG {mode}{', progressive' * options['progressive']}{', turned' * (orientation > 1)}{name}"
    return Case(words, data, _TURNS[orientation](expected), is_lossy=True)


def _webp_case(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    lossless, has_alpha = bool(rng.random() < 0.6), bool(rng.random() < 0.4)
    alpha = _alpha(rng, x)
    orientation = _orientation(rng)
    options: dict[str, Any] = {"lossless": lossless, "quality": 95, "exact": True}
    if orientation > 1:
        options["exif"] = _exif(orientation)
    data = _saved(np.dstack([x, alpha]) if has_alpha else x, "WEBP", **options)
    name = ""
    if orientation > 1 and rng.random() < 0.3:
        data, orientation, name = data[:-8], 1, ", EXIF cut"
    expected = _TURNS[orientation](_over_white(x, alpha) if has_alpha else x)
    words = f"WebP {'lossless' if lossless else 'lossy'} {'RGBA' if has_alpha else 'RGB'}"
    return Case(f"{words}{', turned' * (orientation > 1)}{name}", data, expected, is_lossy=not lossless)


def _avif_case(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    has_alpha = bool(rng.random() < 0.3)
    alpha = _alpha(rng, x)
    data = _saved(np.dstack([x, alpha]) if has_alpha else x, "AVIF", quality=95, subsampling="4:4:4", speed=8)
    expected, name = _over_white(x, alpha) if has_alpha else x, ""
    at = data.find(b"colrnclx") + 8
    if not has_alpha and at > 8 and rng.random() < 0.3:
        data = data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]
        expected, name = _encode_srgb(_decode_srgb(x) @ _P3.T), ", nclx P3"
    return Case(f"AVIF {'RGBA' if has_alpha else 'RGB'}{name}", data, expected, True, bool(name))


# --- TIFF ------------------------------------------------------------------------------------------


def _grey_tiff(rng: np.random.Generator, order: str, layout: dict[str, Any]) -> tuple[str, Page, Pixels]:
    grey = _photo(rng)[..., 0]
    white = int(rng.integers(0, 2))
    words, shown = "0 is black" if white else "0 is white", grey
    depth = _choice(rng, "u1", "u1", "u2", "u2", "u4", "f2", "f4", "f8", "i1", "i2", "packed")
    if depth == "packed":
        bits = int(_choice(rng, 1, 2, 4, 12))
        samples = (grey.astype(np.uint16) * 257 >> (16 - bits)).astype(np.uint16)
        shown = (samples * 255.0 / (2**bits - 1)).round().astype(np.uint8)
        one = packed_page(samples, bits, white, order=order, fill_order=int(_choice(rng, 1, 1, 2)))
        words = f"{bits} bits, {words}"
    elif depth[0] == "f":
        white, words = 1, words + " (no decoder inverts floats)" * (white == 0)
        one = page((grey / 255.0).astype(depth), int(words.startswith("0 is black")), order=order, **layout)
        words = f"float {depth[1]} bytes, {words}"
    elif depth[0] == "i":
        scale = 1 if depth == "i1" else 257
        samples = grey.astype(np.int32) * scale // 2
        shown = (samples * 255.0 / (255 if depth == "i1" else 65535)).round().astype(np.uint8)
        one = page(samples.astype(depth), white, order=order, **layout)
        words = f"signed {depth[1]} bytes, {words}"
    else:
        scale = {"u1": 1, "u2": 257, "u4": 257}[depth]
        one = page((grey.astype(np.uint64) * scale).astype(depth), white, order=order, **layout)
        words = f"{depth[1]} bytes, {words}"
    return f"grey, {words}", one, _grey3(shown if white else 255 - shown.astype(np.int16))


def _colour_tiff(rng: np.random.Generator, order: str, layout: dict[str, Any]) -> tuple[str, Page, Pixels]:
    x = _photo(rng)
    alpha = _alpha(rng, x)
    depth = _choice(rng, "u1", "u1", "u2", "u2", "f4")
    layout = layout | {"planar": bool(rng.random() < 0.4)}
    scale = {"u1": 1, "u2": 257, "f4": 1 / 255}[depth]
    kind = _choice(rng, "RGB", "RGB", "RGBA", "RGBA multiplied", "CMYK", "RGB + unspecified", "grey + alpha")
    words = f"{kind}, {depth}{', in planes' * layout['planar']}"
    if kind == "RGB":
        return words, page((x * scale).astype(depth), 2, order=order, **layout), x
    if kind == "RGBA":
        samples = (np.dstack([x, alpha]) * scale).astype(depth)
        return words, page(samples, 2, order=order, extra=[2], **layout), _over_white(x, alpha)
    if kind == "RGBA multiplied":
        alpha = alpha.clip(128)
        multiplied = np.dstack([x * (alpha[..., None] / 255.0), alpha])
        samples = (multiplied.round() * scale).astype(depth)
        return words, page(samples, 2, order=order, extra=[1], **layout), _over_white(x, alpha)
    if kind == "CMYK":
        inks = (np.dstack([255 - x, np.zeros_like(alpha)]) * scale).astype(depth)
        return words, page(inks, 5, order=order, **layout), x
    if kind == "grey + alpha":
        samples = (np.dstack([x[..., 0], alpha]) * scale).astype(depth)
        return words, page(samples, 1, order=order, extra=[2], **layout), _over_white(_grey3(x[..., 0]), alpha)
    samples = (np.dstack([x, alpha]) * scale).astype(depth)
    return words, page(samples, 2, order=order, extra=[0], **layout), x


def _tiff_case(rng: np.random.Generator) -> Case:
    if rng.random() < 0.2:
        return _pillow_tiff(rng)
    order = _choice(rng, "<", ">")
    layout: dict[str, Any] = {"rows": _choice(rng, None, 7), "deflate": bool(rng.random() < 0.4)}
    orientation = _orientation(rng)
    if orientation > 1:
        layout["tags"] = {274: [orientation]}
    make = _grey_tiff if rng.random() < 0.5 else _colour_tiff
    words, one, expected = make(rng, order, layout)
    if 274 not in one.tags:
        orientation = 1
    first = ()
    if rng.random() < 0.15:
        first = (page(np.zeros((8, 8), np.uint8), 1, order=order, tags={254: [1]}),)
        words += ", behind a preview"
    words += f"{', deflate' * layout['deflate']}{', big-endian' * (order == '>')}{', turned' * (orientation > 1)}"
    return Case(f"TIFF {words}", tiff(*first, one, order=order), _TURNS[orientation](expected))


def _pillow_tiff(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    compression = _choice(rng, "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "group4")
    if compression == "group4":
        mask = x[..., 0] > np.median(x[..., 0])
        data = _saved((mask * 255).astype(np.uint8), "PNG")
        held = io.BytesIO()
        Image.open(io.BytesIO(data)).convert("1").save(held, "TIFF", compression=compression)
        return Case("TIFF 1 bit, group4", held.getvalue(), _grey3(mask * 255))
    tags = ImageFileDirectory_v2()
    tags[270] = "a description"
    data = _saved(x, "TIFF", compression=compression, tiffinfo=tags)
    return Case(f"TIFF RGB, {compression}", data, x, is_lossy=compression == "jpeg")


# --- others ----------------------------------------------------------------------------------------


def _pnm_case(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    most = int(_choice(rng, 1, 15, 100, 255, 255, 1023, 65535))
    is_grey, is_text = bool(rng.random() < 0.5), bool(rng.random() < 0.3)
    source = x[..., :1] if is_grey else x
    samples = (source * (most / 255.0)).round().astype(np.uint16)
    shown = (samples * (255.0 / most)).round().astype(np.uint8)
    number = (2 if is_grey else 3) + (0 if is_text else 3)
    head = f"P{number}\n# a comment\n{x.shape[1]} {x.shape[0]}\n{most}\n".encode()
    body = samples.astype(">u2" if most > 255 else np.uint8).tobytes()
    if is_text:
        body = b"\n".join(str(value).encode() for value in samples.ravel())
    expected = np.repeat(shown, 3, axis=2) if is_grey else shown
    return Case(f"PNM P{number}, up to {most}", head + body, expected)


def _tga_case(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    alpha = _alpha(rng, x)
    bits = int(_choice(rng, 8, 24, 32, 32))
    attribute = int(_choice(rng, 0, 8)) if bits == 32 else 0
    is_top = bool(rng.random() < 0.5)
    stored = {8: x[..., :1], 24: x[..., ::-1], 32: np.dstack([x[..., ::-1], alpha])}[bits]
    stored = stored if is_top else stored[::-1]
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 3 if bits == 8 else 2, 0, 0, 0, 0, 0, x.shape[1], x.shape[0], bits, 0)
    head = head[:17] + bytes([attribute | 32 * is_top])
    expected = _grey3(x[..., 0]) if bits == 8 else _over_white(x, alpha) if attribute else x
    words = f"TGA {bits} bits, {attribute} of them alpha, {'top' if is_top else 'bottom'} first"
    return Case(words, head + stored.tobytes(), expected)


def _other_case(rng: np.random.Generator) -> Case:
    x = _photo(rng)
    grey = x[..., 0]
    name = _choice(rng, "BMP", "BMP grey", "BMP 1 bit", "GIF", "PCX", "SGI", "JPEG2000", "JPEG2000 grey", "QOI")
    file_format = name.split()[0]
    if name == "BMP 1 bit":
        mask = grey > np.median(grey)
        held = io.BytesIO()
        Image.fromarray((mask * 255).astype(np.uint8)).convert("1").save(held, "BMP")
        return Case(name, held.getvalue(), _grey3(mask * 255))
    if name == "GIF":
        held = io.BytesIO()
        Image.fromarray(grey).save(held, "GIF")
        return Case("GIF grey", held.getvalue(), _grey3(grey))
    if "grey" in name:
        return Case(name, _saved(grey, file_format), _grey3(grey))
    if name == "QOI":  # every pixel as it is
        body = b"".join(b"\xfe" + bytes(pixel) for pixel in x.reshape(-1, 3))
        head = b"qoif" + struct.pack(">II", x.shape[1], x.shape[0]) + b"\3\0"
        return Case(name, head + body + bytes(7) + b"\1", x)
    return Case(name, _saved(x, file_format), x)


_MAKERS: list[tuple[Callable[[np.random.Generator], Case], int]] = [
    (_png_case, 5),
    (_tiff_case, 8),
    (_jpeg_case, 3),
    (_webp_case, 2),
    (_avif_case, 1),
    (_pnm_case, 2),
    (_tga_case, 1),
    (_other_case, 2),
]
