"""Damaged side data of JPEG and WebP files: one line, and the pixels that libvips and libwebp decode without them."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from hfd.codec.picture.content import read_picture
from hfd.errors import DataError
from hfd.image.load import load_rgb
from hfd.image.notes import collected_notes

H, W = 64, 96
X = np.dstack(
    [
        np.tile(np.linspace(20, 220, W).astype(np.uint8), (H, 1)),
        np.tile(np.linspace(20, 220, H).astype(np.uint8)[:, None], (1, W)),
        np.full((H, W), 90, np.uint8),
    ]
)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = Image.Exif()
EXIF[0x010F] = "maker"
EXIF_DATA = EXIF.tobytes()
LEFT_OUT = "its {} part is damaged, and is left out"
NO_PROFILE = "its colour profile is damaged, or of other colours than its pixels; left out, taken as sRGB"
NO_EXIF = "its EXIF is damaged, and is left out"


def saved(file_format: str, **options: object) -> bytes:
    held = io.BytesIO()
    Image.fromarray(X).save(held, file_format, **options)
    return held.getvalue()


JPEG = saved("JPEG", quality=95, subsampling=0)
AFTER_JFIF = 4 + struct.unpack(">H", JPEG[4:6])[0]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG without its own first segment, and with these application segments."""
    made = [bytes([0xFF, 0xE0 + n]) + struct.pack(">H", len(body) + 2) + body for n, body in segments]
    return JPEG[:2] + b"".join(made) + JPEG[AFTER_JFIF:]


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (jpeg((0, b"JFIF")), LEFT_OUT.format("APP0")),
        (jpeg((0, b"JFIF\0\1\2")), None),
        (jpeg((14, b"Adobe")), LEFT_OUT.format("APP14")),
        (jpeg((2, b"ICC_PROFILE\0")), LEFT_OUT.format("APP2")),
        (jpeg((2, b"ICC_PROFILE\0\1"), (0, b"JFIF\0")), LEFT_OUT.format("APP2")),
        (jpeg((2, b"ICC_PROFILE\0\1\2" + PROFILE)), NO_PROFILE),
        (jpeg((2, b"ICC_PROFILE\0\1\1" + PROFILE[:200])), NO_PROFILE),
        (jpeg((2, b"ICC_PROFILE\0\1\1" + PROFILE), (2, b"ICC_PROFILE\0\1\1" + PROFILE)), NO_PROFILE),
        (jpeg((13, b"Photoshop 3.0\x008BIM\4\4")), LEFT_OUT.format("APP13")),
        (jpeg((1, b"Exif\0\0junkjunk")), NO_EXIF),
        (jpeg((1, EXIF_DATA[:20])), NO_EXIF),
        (jpeg((1, b"Exif\0\0II*\0\xff\xff\xff\x7f")), NO_EXIF),
        (jpeg((1, b"Exif\0\0")), None),
        (jpeg((1, EXIF_DATA)), None),
        (jpeg((2, b"MPF\0junk")), None),
        (jpeg((1, b"http://ns.adobe.com/xap/1.0/\0<a")), None),
    ],
)
def test_a_jpeg_is_read_as_libvips_reads_it(data: bytes, note: str | None) -> None:
    expected = pyvips.Image.jpegload_buffer(data, fail_on="none").numpy()
    with collected_notes() as notes:
        np.testing.assert_array_equal(load_rgb(data), expected)
    assert [one.text for one in notes][:1] == ([] if note is None else [note])
    kept = read_picture(data, keep_metadata=True).extras
    assert (kept.exif is None) == (data != jpeg((1, EXIF_DATA)))


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if length is None else length) + data + bytes(len(data) & 1)


def webp(flags: int, *chunks: bytes, length: int | None = None) -> bytes:
    head = bytes([flags, 0, 0, 0]) + struct.pack("<I", W - 1)[:3] + struct.pack("<I", H - 1)[:3]
    body = b"WEBP" + chunk(b"VP8X", head) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


PIXELS = saved("WEBP", lossless=True)[12:]
EXIF_CHUNK = chunk(b"EXIF", EXIF_DATA[6:])
XMP_CHUNK = chunk(b"XMP ", b"<abc/>" * 20)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (webp(0x08, PIXELS, EXIF_CHUNK), None),
        (webp(0x20, chunk(b"ICCP", PROFILE[:100]), PIXELS), NO_PROFILE),
        (webp(0x20, chunk(b"ICCP", b""), PIXELS), None),
        (webp(0x08, PIXELS, EXIF_CHUNK)[:-10], "its EXIF part is cut, and is left out"),
        (webp(0x08, PIXELS, chunk(b"EXIF", EXIF_DATA[6:], 5000)), "its EXIF part is cut, and is left out"),
        (webp(0x08, PIXELS, chunk(b"EXIF", EXIF_DATA[6:], 2**32 - 2)), "its EXIF part is cut, and is left out"),
        (webp(0x0C, PIXELS, EXIF_CHUNK, XMP_CHUNK)[:-30], "its XMP part is cut, and is left out"),
        (webp(0x08, PIXELS, chunk(b"EXIF", b"junk")), NO_EXIF),
        (webp(0, PIXELS, length=90_000), "its end is cut; what followed its pixels is left out"),
        (webp(0x2C, PIXELS), None),
    ],
)
def test_a_webp_has_its_pixels(data: bytes, note: str | None) -> None:
    with collected_notes() as notes:
        np.testing.assert_array_equal(load_rgb(data), X)
    assert [one.text for one in notes] == ([] if note is None else [note])


def test_the_whole_parts_of_a_cut_webp_are_kept() -> None:
    data = webp(0x2C, chunk(b"ICCP", PROFILE), PIXELS, EXIF_CHUNK, XMP_CHUNK)[:-30]
    assert (read_picture(data, keep_metadata=True).extras.exif or b"").endswith(EXIF_DATA[6:])


@pytest.mark.parametrize(
    "data", [JPEG[:-400], webp(0x08, PIXELS[:-40]), webp(0x08, PIXELS, EXIF_CHUNK)[:80], JPEG[:40]]
)
def test_a_picture_whose_pixels_are_cut_is_refused(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        load_rgb(data)
    assert caught.value.reason in ("truncated", "broken")


def test_any_damage_of_side_data_leaves_the_pixels_or_is_refused_in_one_line() -> None:
    whole = jpeg((1, EXIF_DATA), (2, b"ICC_PROFILE\0\1\1" + PROFILE), (13, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\2ab"))
    end = len(whole) - len(JPEG) + AFTER_JFIF
    rng = np.random.default_rng(0)
    plain = load_rgb(JPEG)
    for _ in range(200):
        data = bytearray(whole)
        at = int(rng.integers(2, end))
        data[at] = int(rng.integers(256))
        try:
            found = load_rgb(bytes(data))
        except DataError as error:
            assert "\n" not in str(error)
        else:
            # A damaged number in a profile may still be a profile, and a damaged length moves what follows.
            assert found.shape == plain.shape
