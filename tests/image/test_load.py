"""Decoding: orientation, frames, sizes, damage. Colour itself is in test_colour.py."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from hfd.errors import DataError
from hfd.image.formats import HEIC_SUFFIXES
from hfd.image.load import IMAGE_SUFFIXES, encode_webp_lossless, load_rgb

Pixels: TypeAlias = npt.NDArray[np.uint8]
ORIENTED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda s: s,
    2: lambda s: s[:, ::-1],
    3: lambda s: s[::-1, ::-1],
    4: lambda s: s[::-1],
    5: lambda s: s.swapaxes(0, 1),
    6: lambda s: np.rot90(s, -1),
    7: lambda s: s[::-1, ::-1].swapaxes(0, 1),
    8: lambda s: np.rot90(s, 1),
}
# One lossless and exact, or lossy and near, set of save options per container.
CONTAINERS: dict[str, tuple[str, dict[str, object], int]] = {
    "png": ("PNG", {}, 0),
    "tiff": ("TIFF", {}, 0),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}, 0),
    "webp-lossless": ("WEBP", {"lossless": True}, 0),
    "webp": ("WEBP", {"quality": 95}, 20),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}, 12),
    "avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 12),
}


def picture(height: int = 24, width: int = 40) -> Pixels:
    """Smooth, and different under each of the eight orientations."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = (
        rows * 255 // height,
        columns * 255 // width,
        (rows + 2 * columns) * 255 // (height + 2 * width),
    )
    x: Pixels = np.stack(planes, axis=-1).astype(np.uint8)
    return x


def encoded(x: Pixels, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def reason_of(data: bytes, **options: int) -> str:
    with pytest.raises(DataError) as caught:
        load_rgb(data, name="a.jpg", **options)
    message = str(caught.value)
    assert message.startswith("a.jpg: got ") and ", expected " in message and "\n" not in message
    return caught.value.reason


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("container", CONTAINERS)
def test_orientation_is_applied(container: str, orientation: int) -> None:
    file_format, options, tolerance = CONTAINERS[container]
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(picture(), file_format, exif=exif, **options)
    expected = ORIENTED[orientation](picture())
    x = load_rgb(data)
    assert x.shape == expected.shape and x.dtype == np.uint8
    assert np.abs(x.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", [3, 6])
def test_orientation_behind_the_pixels_of_a_png_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    whole = encoded(picture(), "PNG")
    end = whole.rindex(b"IEND") - 4
    data = whole[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + whole[end:]
    expected = ORIENTED[orientation](picture())
    assert np.array_equal(load_rgb(data), expected)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12", b"Exif\0\0"])
def test_broken_exif_is_ignored(exif: bytes) -> None:
    data = encoded(picture(), "PNG", exif=exif)
    assert np.array_equal(load_rgb(data), picture())


def test_all_kinds_of_source_agree(tmp_path: Path) -> None:
    data = encoded(picture(), "TIFF", compression="tiff_lzw")
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    stream = io.BytesIO(data)
    stream.seek(7)
    for source in (data, path, stream):
        x = load_rgb(source)
        assert np.array_equal(x, picture())
        assert x.flags.c_contiguous and x.flags.writeable
    assert not stream.closed


class Pipe(io.BytesIO):
    """A stream that cannot seek, like a socket."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")


def test_a_stream_that_cannot_seek_is_read() -> None:
    assert np.array_equal(load_rgb(Pipe(encoded(picture(), "PNG"))), picture())


def test_an_absent_path_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(DataError, match=str(path)) as caught:
            load_rgb(path)
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP", "PNG", "MPO", "AVIF"])
def test_the_first_of_several_frames_is_taken(file_format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, file_format, save_all=True, append_images=frames[1:])
    assert np.abs(load_rgb(buffer.getvalue()).astype(int) - (255, 0, 0)).max() <= 6


def test_lossless_webp_loses_nothing() -> None:
    x = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    assert np.array_equal(load_rgb(encode_webp_lossless(x)), x)
    assert np.array_equal(load_rgb(encode_webp_lossless(x[:, ::-2])), x[:, ::-2])
    for wrong in (x.astype(np.float32), x[..., 0], x[..., :2]):
        with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
            encode_webp_lossless(wrong)


def test_webp_refuses_sides_beyond_its_format() -> None:
    assert load_rgb(encode_webp_lossless(np.zeros((1, 16383, 3), np.uint8))).shape == (1, 16383, 3)
    with pytest.raises(ValueError, match="16383"):
        encode_webp_lossless(np.zeros((1, 16384, 3), np.uint8))


def test_files_that_are_no_pictures() -> None:
    assert reason_of(b"") == "not-an-image"
    assert reason_of(b"Dear reader,\nthis is a letter.\n") == "not-an-image"
    assert reason_of(bytes(1000)) == "not-an-image"
    # Would start Ghostscript on a stranger's program.
    assert reason_of(encoded(picture(), "EPS")) == "not-an-image"


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (12_000, 12_000)])
def test_a_header_that_promises_too_much_is_refused_undecoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(_: object) -> None:
        raise MemoryError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    before = Image.MAX_IMAGE_PIXELS
    data = png_header(*size) + chunk(b"IDAT", b"")
    assert reason_of(data) == "too-large"
    assert before == Image.MAX_IMAGE_PIXELS


def test_max_pixels_is_inclusive() -> None:
    data = encoded(picture(24, 40), "PNG")
    assert load_rgb(data, max_pixels=960).shape == (24, 40, 3)
    assert reason_of(data, max_pixels=959) == "too-large"


def test_pillows_own_guard_neither_warns_nor_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture(24, 40), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
        assert load_rgb(data).shape == (24, 40, 3)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
        assert reason_of(data) == "too-large"


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    data = encoded(picture(), "PNG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert all(x.shape == (24, 40, 3) for x in pool.map(load_rgb, [data] * 200))
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 90, "progressive": True}),
        ("WEBP", {"quality": 80}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 60}),
        ("GIF", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG2000", {}),
    ],
)
def test_a_file_cut_anywhere_is_refused_or_still_whole(file_format: str, options: dict[str, object]) -> None:
    noise = np.random.default_rng(1).integers(0, 40, (24, 40, 3), dtype=np.uint8)
    data = encoded(picture() // 2 + noise, file_format, **options)
    whole = load_rgb(data)
    reasons = []
    for length in range(len(data)):
        try:
            assert np.array_equal(load_rgb(data[:length]), whole), f"a partial picture at byte {length}"
        except DataError as error:
            assert error.reason in {"not-an-image", "truncated", "broken", "unread-format"}
            reasons.append(error.reason)
    assert len(reasons) > len(data) * 9 // 10
    # libtiff writes the directory last, so that nothing is left to tell a cut from other damage.
    assert reasons[len(data) * 9 // 10] == ("broken" if "compression" in options else "truncated")


@settings(max_examples=300, deadline=None)
@given(
    file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_never_escapes_as_anything_but_data_error(file_format: str, damage: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(picture(), file_format))
    for place, value in damage:
        data[int(place * len(data))] = value
    try:
        x = load_rgb(bytes(data), max_pixels=20_000)
    except DataError as error:
        assert error.reason in {"not-an-image", "truncated", "broken", "too-large", "unread-format"}
        assert "\n" not in str(error)
    else:
        assert x.ndim == 3 and x.shape[2] == 3 and x.dtype == np.uint8


def test_each_suffix_is_one_that_pillow_opens() -> None:
    Image.init()
    assert features.check("avif") and features.check("webp") and features.check("jpg_2000")
    assert set(Image.registered_extensions()) >= IMAGE_SUFFIXES - HEIC_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
