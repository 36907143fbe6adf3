"""EXIF of turned and cut pictures, read by Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from hfd.codec.exif import fitted_exif
from hfd.codec.picture.content import read_picture


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength] = 60, 40
    exif[ExifTags.Base.Make] = "a camera"
    exif.get_ifd(ExifTags.IFD.Exif).update({0xA002: 60, 0xA003: 40})
    exif.get_ifd(ExifTags.IFD.IFD1).update({0x0201: 0, 0x0202: 0})
    return exif


def parsed(data: bytes) -> tuple[Image.Exif, dict[int, object]]:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + data.removeprefix(b"Exif\0\0"))
    return exif, exif.get_ifd(ExifTags.IFD.Exif)


@pytest.mark.parametrize("orientation", [6, 8, 5])
def test_sizes_follow_a_turn(orientation: int) -> None:
    held = io.BytesIO()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(held, "JPEG", exif=exif_of(orientation))
    picture = read_picture(held.getvalue(), keep_metadata=True)
    assert (picture.width, picture.height) == (40, 60) and picture.extras.exif is not None
    exif, inner = parsed(picture.extras.exif)
    assert (exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength]) == (40, 60)
    assert (inner[0xA002], inner[0xA003]) == (40, 60) and exif[ExifTags.Base.Make] == "a camera"


def test_a_picture_that_is_upright_keeps_its_exif_byte_for_byte() -> None:
    held = io.BytesIO()
    exif = exif_of(1).tobytes()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(held, "JPEG", exif=exif)
    assert read_picture(held.getvalue(), keep_metadata=True).extras.exif == exif


def test_the_preview_goes() -> None:
    ifd = b"\x01\0" + b"\x0f\x01\x02\0\x01\0\0\0x\0\0\0" + (26).to_bytes(4, "little")
    second = b"\x02\0" + b"\x01\x02\x04\0\x01\0\0\0" + (56).to_bytes(4, "little")
    second += b"\x02\x02\x04\0\x01\0\0\0" + (9).to_bytes(4, "little") + bytes(4)
    data = b"II*\0\x08\0\0\0" + ifd + second + b"thumbnail" + b"kept"
    found = fitted_exif(data, 3, 4)
    assert len(found) == len(data) and b"thumbnail" not in found and found.endswith(bytes(9) + b"kept")
    assert parsed(found)[0].get_ifd(ExifTags.IFD.IFD1) == {}


def test_damaged_exif_stays_of_its_length() -> None:
    whole = exif_of(6).tobytes().removeprefix(b"Exif\0\0")
    for end in range(len(whole)):
        assert len(fitted_exif(whole[:end], 5, 6)) == end
    rng = np.random.default_rng(0)
    for _ in range(300):
        forged = bytearray(whole)
        forged[int(rng.integers(8, len(whole)))] = int(rng.integers(256))
        assert len(fitted_exif(bytes(forged), 5, 6)) == len(whole)
