"""Colours that a file states outside an ICC profile, against their standards and Chromium's values."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from hfd.codec.picture import strips
from hfd.codec.picture.content import picture_of_image, read_picture
from hfd.codec.picture.strips import open_picture
from hfd.errors import PictureWarning
from hfd.image.load import load_rgb
from hfd.image.notes import collected_notes

COLOURS = np.array([[10, 10, 10], [25, 20, 230], [64, 64, 64], [128, 128, 128], [200, 100, 50]], np.uint8)
X = np.repeat(np.repeat(COLOURS[None], 8, axis=0), 8, axis=1)
P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
BT709 = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def part(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(*parts: bytes, mode: str = "RGB", at_end: bool = False) -> bytes:
    held = io.BytesIO()
    Image.fromarray(X).convert(mode).save(held, "PNG")
    data = held.getvalue()
    at = len(data) - 12 if at_end else 33
    return data[:at] + b"".join(parts) + data[at:]


def gama(value: int) -> bytes:
    return part(b"gAMA", struct.pack(">I", value))


def chrm(values: tuple[int, ...]) -> bytes:
    return part(b"cHRM", struct.pack(">8I", *values))


def cicp(primaries: int, transfer: int, is_full: int = 1) -> bytes:
    return part(b"cICP", bytes([primaries, transfer, 0, is_full]))


def iccp(profile: bytes) -> bytes:
    return part(b"iCCP", b"p\0\0" + zlib.compress(profile))


def avif(primaries: int, transfer: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(X).save(held, "AVIF", quality=100, subsampling="4:4:4")
    data = bytearray(held.getvalue())
    at = data.find(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


def colours_of(data: bytes) -> np.ndarray:
    return load_rgb(data)[4, 4::8].astype(int)


def notes_of(data: bytes) -> list[str]:
    with collected_notes() as notes:
        load_rgb(data)
    return [note.text for note in notes]


def srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0.0, 1.0)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_profile(size: int) -> bytes:
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    made += bytes(max(0, size - len(made)))
    made[:4] = struct.pack(">I", len(made))
    return bytes(made)


@pytest.mark.parametrize("gamma", [100_000, 55_556, 60_000])
def test_a_gamma_is_converted(gamma: int) -> None:
    expected = srgb((COLOURS / 255.0) ** (100_000 / gamma))
    assert np.abs(colours_of(png(gama(gamma))) - expected).max() <= 1
    grey = colours_of(png(gama(gamma), mode="L"))[0]
    assert np.abs(grey - expected[0]).max() <= 1


@pytest.mark.parametrize(("exponent", "transfer"), [(1.0, 8), (2.2, 4), (2.8, 5), (2.4, 1), (2.4, 14)])
def test_transfer_functions_of_cicp(exponent: float, transfer: int) -> None:
    assert np.abs(colours_of(png(cicp(1, transfer))) - srgb((COLOURS / 255.0) ** exponent)).max() <= 1


# As Chromium 151 shows them, on a display of sRGB.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(cicp(12, 13)), [[10, 10, 10], [26, 20, 240], [64, 64, 64], [128, 128, 128], [215, 93, 31]]),
        (png(cicp(9, 14)), [[1, 1, 1], [0, 0, 240], [53, 54, 54], [121, 121, 121], [239, 63, 5]]),
        (png(cicp(11, 17)), [[1, 1, 1], [2, 0, 245], [48, 48, 48], [118, 118, 118], [212, 78, 0]]),
        (png(gama(45_455), chrm(P3)), [[3, 3, 3], [19, 12, 240], [62, 62, 62], [129, 129, 129], [216, 93, 24]]),
        (png(cicp(2, 2)), COLOURS.tolist()),
        (png(gama(45_455)), COLOURS.tolist()),
        (png(chrm(P3)), COLOURS.tolist()),
        (avif(1, 1), COLOURS.tolist()),
        (avif(12, 13), [[10, 10, 10], [25, 20, 239], [64, 64, 64], [128, 128, 128], [215, 93, 31]]),
        (avif(9, 14), [[10, 10, 10], [0, 1, 241], [64, 64, 64], [128, 128, 128], [241, 76, 29]]),
        (avif(1, 8), [[56, 56, 56], [86, 79, 243], [137, 137, 137], [188, 188, 188], [229, 168, 122]]),
    ],
)
def test_colours_are_those_of_a_browser(data: bytes, expected: list[list[int]]) -> None:
    assert np.abs(colours_of(data) - expected).max() <= 2
    assert notes_of(data) == []


def test_the_order_of_statements() -> None:
    linear, p3 = colours_of(png(gama(100_000))), colours_of(png(cicp(12, 13)))
    srgb_part = part(b"sRGB", b"\0")
    assert np.array_equal(colours_of(png(cicp(12, 13), iccp(srgb_profile(0)), srgb_part, gama(100_000))), p3)
    assert np.abs(colours_of(png(iccp(srgb_profile(0)), gama(100_000))) - COLOURS).max() <= 1
    assert np.array_equal(colours_of(png(srgb_part, gama(100_000), chrm(P3))), COLOURS)
    assert np.array_equal(colours_of(png(iccp(b"no profile"), gama(100_000))), linear)
    assert np.array_equal(colours_of(png(gama(45_455), chrm(BT709))), COLOURS)


def test_the_narrow_range_is_widened() -> None:
    expected = np.clip((COLOURS[[0, 2, 3]].astype(float) - 16) * 255 / 219, 0, 255)
    assert np.abs(colours_of(png(cicp(1, 13, is_full=0)))[[0, 2, 3]] - expected).max() <= 1


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_noted_and_taken_as_srgb(transfer: int) -> None:
    name = {16: "PQ", 18: "HLG"}[transfer]
    for data in (png(cicp(9, transfer)), avif(9, transfer)):
        (note,) = notes_of(data)
        assert f"states {name}" in note
        assert np.abs(colours_of(data) - COLOURS).max() <= 1
    assert [name in note.text for note in read_picture(png(cicp(9, transfer))).notes] == [True]


@pytest.mark.parametrize(
    "parts",
    [
        (gama(0),),
        (gama(2**31),),
        (gama(100_000)[:8] + b"\0" * 8,),
        (gama(45_000), chrm((0,) * 8)),
        (cicp(3, 13),),
        (cicp(1, 200),),
        (part(b"gAMA", b"\0"),),
        (part(b"cHRM", bytes(31)),),
        (part(b"cICP", b"\1\1"),),
        (part(b"pHYs", b"abc"),),
        (part(b"tEXt", b"a\0b", crc=7),),
        (part(b"prVt", b"a\0b", crc=7),),
        (part(b"iCCP", b"p\0\0" + zlib.compress(b"x"), crc=7),),
        (part(b"iCCP", b"p\0\1" + zlib.compress(b"x")),),
        (part(b"iCCP", b"p\0\0" + zlib.compress(bytes(range(256)) * 40)[:-30]),),
        (iccp(srgb_profile(5_000_000)),),
        (part(b"zTXt", b"Comment\0\0" + zlib.compress(b" " * 1_200_000)),),
        (part(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b" " * 1_200_000)),),
        (part(b"tEXt", b"Comment\0" + b" " * 1_200_000),),
    ],
)
def test_damaged_and_long_parts_are_left_out(parts: tuple[bytes, ...]) -> None:
    for at_end in (False, True):
        data = png(*parts, at_end=at_end)
        assert np.array_equal(colours_of(data), COLOURS)
        assert at_end or len(notes_of(data)) == 1
        picture = picture_of_image(Image.open(io.BytesIO(png())))
        assert picture.notes == ()


def test_a_long_profile_is_read_up_to_the_limit_of_a_file() -> None:
    for size in (1_200_000, 2**22):
        data = png(iccp(srgb_profile(size)))
        assert notes_of(data) == [] and np.abs(colours_of(data) - COLOURS).max() <= 1


def test_metadata_above_the_limit_of_a_file_is_left_out() -> None:
    held = io.BytesIO()
    Image.fromarray(X).save(held, "TIFF", icc_profile=srgb_profile(5_000_000).replace(b"rXYZ", b"gXY0"))
    assert [note.kind for note in read_picture(held.getvalue()).notes] == ["profile"]
    held = io.BytesIO()
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(wide.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ"))
    swapped += bytes(5_000_000 - len(swapped))
    swapped[:4] = struct.pack(">I", len(swapped))
    Image.fromarray(X).save(held, "TIFF", icc_profile=bytes(swapped))
    kept, converted = read_picture(held.getvalue(), keep_metadata=True), read_picture(held.getvalue())
    assert kept.extras.icc is None and np.array_equal(kept.rgb, converted.rgb)
    assert [note.kind for note in kept.notes] == ["profile"] and converted.notes == ()
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(5_000_000)
    data = png(part(b"eXIf", exif[6:]))
    kept = read_picture(data, keep_metadata=True)
    assert kept.extras.exif is None and [note.kind for note in kept.notes] == ["metadata"]
    assert read_picture(data).notes == ()


def test_strips_have_the_same_colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(strips, "WHOLE_PIXELS", 16)
    bad = part(b"tEXt", b"a\0b", crc=7)
    for data in (png(gama(100_000)), png(cicp(12, 13), bad), png(cicp(9, 16)), png(gama(100_000), mode="L")):
        (tmp_path / "x.png").write_bytes(data)
        for source in (data, tmp_path / "x.png"):
            picture = open_picture(source)
            assert isinstance(picture, strips.StripPicture)
            assert np.array_equal(picture.rows(0, 8), load_rgb(data))
            assert [note.text for note in picture.notes] == notes_of(data)


def test_an_opened_image_states_its_colours(tmp_path: Path) -> None:
    for name, data in (("x.png", png(cicp(12, 13))), ("y.png", png(gama(100_000))), ("z.avif", avif(12, 13))):
        (tmp_path / name).write_bytes(data)
        expected = load_rgb(data)
        assert np.array_equal(picture_of_image(Image.open(io.BytesIO(data))).rgb, expected)
        with Image.open(tmp_path / name) as image:
            image.load()
            assert np.array_equal(picture_of_image(image).rgb, expected)


def test_a_kept_picture_has_a_profile_of_its_stated_colours() -> None:
    kept = read_picture(png(cicp(12, 13)), keep_metadata=True)
    assert np.array_equal(kept.rgb, X) and kept.extras.icc is not None
    held = io.BytesIO()
    kept.to_image().save(held, "PNG", icc_profile=kept.extras.icc)
    assert np.array_equal(load_rgb(held.getvalue()), load_rgb(png(cicp(12, 13))))


def test_the_api_warns(tmp_path: Path) -> None:
    from hfd.api import compress

    (tmp_path / "pq.png").write_bytes(png(cicp(9, 16)))
    with pytest.warns(PictureWarning, match=r"pq\.png: states PQ"):
        compress(tmp_path / "pq.png", model="desk-012")
