"""Sample depths, transparency and colour profiles, against numbers worked out here."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from hfd.errors import DataError
from hfd.image.load import load_rgb

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
# Columns are the red, green and blue primaries in XYZ, adapted to D50.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png(bits: int, colour_type: int, rows: list[bytes], width: int, *extra: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in [(b"IHDR", header), *extra, (b"IDAT", pixels), (b"IEND", b"")]:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def grey_of(data: bytes) -> npt.NDArray[np.int64]:
    x = load_rgb(data).astype(np.int64)
    assert (x == x[..., :1]).all()
    return np.asarray(x[..., 0], np.int64)


def srgb_encoded(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IEC 61966-2-1, to [0, 255]."""
    linear = np.clip(linear, 0.0, 1.0)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(255 * curve, np.float64)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def gamma_curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def icc_profile(device: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC 2.4 profile (ICC.1:2001-04, sections 6.1 and 6.2)."""
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249), **tags}
    offset = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", offset + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s", offset + len(bodies), bytes(4), 0x02400000, device, space, pcs)
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + bodies


def rgb_profile(primaries: npt.NDArray[np.float64], gamma: float) -> bytes:
    tags = {name: gamma_curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.T, strict=True):
        tags[name] = b"XYZ " + bytes(4) + fixed(*column)
    return icc_profile(b"mntr", b"RGB ", b"XYZ ", tags)


def cmyk_profile() -> bytes:
    """A lut8 with two nodes an ink: L* = 100 (1 - k) (1 - mean(c, m, y)), neutral, linear along each ink."""
    identity = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + identity * 4
    for node in np.ndindex(2, 2, 2, 2):
        lightness = (1 - node[3]) * (1 - sum(node[:3]) / 3)
        lut += bytes([round(255 * lightness), 128, 128])
    return icc_profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut + identity * 3})


def test_eight_bit_grey_and_palette() -> None:
    assert np.array_equal(grey_of(saved(Image.fromarray(RAMP), "PNG")), RAMP)
    palette = Image.fromarray(RAMP).convert("P")
    palette.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    for file_format in ("PNG", "GIF", "BMP", "TIFF"):
        x = load_rgb(saved(palette, file_format))
        assert np.array_equal(x, np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 7)], axis=-1))


def test_one_bit() -> None:
    bits = RAMP % 3 == 0
    for file_format in ("PNG", "TIFF", "BMP", "PPM"):
        assert np.array_equal(grey_of(saved(Image.fromarray(bits), file_format)), bits * 255)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_is_rounded(file_format: str) -> None:
    samples = np.linspace(0, 65535, 1024).round().astype(np.uint16).reshape(32, 32)
    x = grey_of(saved(Image.fromarray(samples), file_format))
    assert np.array_equal(x, np.floor(samples / 257 + 0.5))
    assert x[0, 0] == 0 and x[-1, -1] == 255


def test_twelve_bit_tiff_reaches_white() -> None:
    # Little-endian, one strip, two samples (0, 4095) packed in three bytes.
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 134), (277, 3, 1)]
    entries += [(278, 3, 1), (279, 4, 3)]
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    data += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    data = data.ljust(134, b"\0") + b"\x00\x0f\xff"
    assert grey_of(data).tolist() == [[0, 255]]


def test_wide_integers_and_floats() -> None:
    wide = np.array([[0, 32768, 65535]], np.int32)
    assert grey_of(saved(Image.fromarray(wide), "TIFF")).tolist() == [[0, 128, 255]]
    unit = np.array([[0.0, 0.5, 1.0, 1.01, -0.2]], np.float32)
    assert grey_of(saved(Image.fromarray(unit), "TIFF")).tolist() == [[0, 128, 255, 255, 0]]
    bytes_as_float = np.array([[0.0, 99.6, 255.0, 300.0]], np.float32)
    assert grey_of(saved(Image.fromarray(bytes_as_float), "TIFF")).tolist() == [[0, 100, 255, 255]]


@pytest.mark.parametrize(
    "samples",
    [np.array([[np.nan, 1]], np.float32), np.array([[70000, 1]], np.int32), np.array([[-1, 1]], np.int32)],
)
def test_samples_without_a_white_are_refused(samples: npt.NDArray[np.generic]) -> None:
    with pytest.raises(DataError, match="grey samples") as caught:
        load_rgb(saved(Image.fromarray(samples), "TIFF"))
    assert caught.value.reason == "broken"


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_alpha_is_composited_over_white(file_format: str) -> None:
    rgba = np.full((16, 16, 4), (200, 100, 0, 0), np.uint8)
    rgba[..., 3] = RAMP
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {"quality": 100}
    x = load_rgb(saved(Image.fromarray(rgba), file_format, **options))
    share = RAMP[..., None] / 255
    expected = rgba[..., :3] * share + 255 * (1 - share)
    assert np.abs(x - expected).max() <= (3 if file_format == "AVIF" else 0.51)


def test_grey_with_alpha() -> None:
    x = grey_of(saved(Image.fromarray(np.stack([np.full_like(RAMP, 50), RAMP], axis=-1)), "PNG"))
    assert np.abs(x - (255 - 205 * (RAMP / 255))).max() <= 0.51


def test_transparent_palette_entries() -> None:
    palette = Image.fromarray((RAMP % 3).astype(np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    red, blue = (255, 0, 0), (0, 0, 255)
    one = load_rgb(saved(palette, "PNG", transparency=1))
    many = load_rgb(saved(palette, "PNG", transparency=bytes([255, 102, 0])))
    gif = load_rgb(saved(palette, "GIF", transparency=1))
    for x, colours in (
        (one, (red, (255, 255, 255), blue)),
        (gif, (red, (255, 255, 255), blue)),
        (many, (red, (153, 255, 153), (255, 255, 255))),
    ):
        assert np.array_equal(x, np.array(colours, np.uint8)[RAMP % 3])


@pytest.mark.parametrize(
    ("bits", "row", "key", "expected"),
    [
        (1, b"\x40", 1, [0, 255, 0, 0]),
        (1, b"\x40", 0, [255, 255, 255, 255]),
        (2, b"\x1b", 2, [0, 85, 255, 255]),
        (4, b"\x04\x8f", 4, [0, 255, 136, 255]),
        (8, b"\x00\x04\x08\xff", 4, [0, 255, 8, 255]),
        (16, b"\x00\x00\x10\x01\x10\x02\xff\xff", 0x1001, [0, 255, 16, 255]),
    ],
)
def test_transparent_grey_of_each_depth(bits: int, row: bytes, key: int, expected: list[int]) -> None:
    assert grey_of(png(bits, 0, [row], 4, (b"tRNS", struct.pack(">H", key)))).tolist() == [expected]


def test_transparent_colour_of_each_depth() -> None:
    key = (b"tRNS", struct.pack(">HHH", 10, 20, 30))
    assert load_rgb(png(8, 2, [bytes([10, 20, 30, 10, 20, 31])], 2, key)).tolist() == [[[255] * 3, [10, 20, 31]]]
    deep = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x0100, 0x0200, 0x0300)
    key = (b"tRNS", deep[:6])
    assert load_rgb(png(16, 2, [deep], 2, key)).tolist() == [[[255] * 3, [1, 2, 3]]]


def test_a_wide_gamut_profile_is_converted() -> None:
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    profile = rgb_profile(DISPLAY_P3, 2.19921875)
    converted = load_rgb(saved(Image.fromarray(x), "PNG", icc_profile=profile)).astype(np.float64)
    linear = (x / 255.0) ** 2.19921875 @ DISPLAY_P3.T @ np.linalg.inv(SRGB).T
    expected = srgb_encoded(linear)
    assert np.abs(converted - expected).max() <= 2.0
    assert np.abs(converted - x).max() > 20.0
    by_hand = ImageCms.profileToProfile(
        Image.fromarray(x), io.BytesIO(profile), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    )
    assert by_hand is not None and np.array_equal(converted, np.asarray(by_hand))


def test_the_srgb_profile_changes_next_to_nothing() -> None:
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    converted = load_rgb(saved(Image.fromarray(x), "PNG", icc_profile=profile))
    assert np.abs(converted.astype(int) - x).max() <= 1


def test_a_profile_applies_below_transparency_and_to_palettes() -> None:
    profile = rgb_profile(DISPLAY_P3, 2.2)
    opaque = load_rgb(saved(Image.new("RGB", (4, 4), (200, 40, 90)), "PNG", icc_profile=profile))
    half = load_rgb(saved(Image.new("RGBA", (4, 4), (200, 40, 90, 51)), "PNG", icc_profile=profile))
    assert np.abs(half - (opaque * 0.2 + 255 * 0.8)).max() <= 0.51
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 40, 90])
    assert np.array_equal(load_rgb(saved(palette, "PNG", icc_profile=profile)), opaque)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_profile_is_converted(dtype: type[np.uint8 | np.uint16]) -> None:
    profile = icc_profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": gamma_curve(1.0)})
    samples = np.asarray(RAMP.astype(int) * (257 if dtype == np.uint16 else 1), dtype)
    x = grey_of(saved(Image.fromarray(samples), "PNG", icc_profile=profile))
    assert np.abs(x - srgb_encoded(RAMP / 255.0)).max() <= 1.0


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_with_and_without_profile(file_format: str) -> None:
    inks = np.zeros((16, 256, 4), np.uint8)
    inks[..., 3] = np.arange(256)  # black alone
    image = Image.fromarray(inks, "CMYK")
    plain = grey_of(saved(image, file_format, quality=100))
    assert np.abs(plain - (255 - inks[..., 3])).max() <= 2
    managed = load_rgb(saved(image, file_format, quality=100, icc_profile=cmyk_profile())).astype(int)
    lightness = 100 * (1 - inks[..., 3] / 255)
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(managed - srgb_encoded(luminance)[..., None]).max() <= 3
    assert np.abs(managed[..., 0] - plain).max() > 5


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile at all",
        rgb_profile(DISPLAY_P3, 2.2)[:150],
        icc_profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": gamma_curve(1.0)}),
        icc_profile(b"mntr", b"RGB ", b"XYZ ", {}),
        cmyk_profile(),
    ],
    ids=["nonsense", "cut", "grey", "empty", "cmyk"],
)
def test_a_broken_or_foreign_profile_is_ignored(profile: bytes) -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(load_rgb(saved(Image.fromarray(x), "PNG", icc_profile=profile)), x)


def test_other_spaces_become_rgb() -> None:
    colours = Image.fromarray(np.tile(np.array([[200, 40, 90], [90, 120, 180]], np.uint8), (8, 4, 1)))
    for mode in ("YCbCr", "LAB"):
        data = saved(colours.convert(mode), "TIFF")
        assert np.abs(load_rgb(data).astype(int) - np.asarray(colours)).max() <= 3
