"""Pillow opens and saves ``.hfd`` files, in its own manner."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import hfd
import hfd.pillow_plugin
from hfd.codec.container import Container, pack, unpack
from hfd.errors import DataError
from hfd.image.load import load_picture
from hfd.io.storage import Folder
from tests.support.pictures import photograph

X = photograph(48, 80)


@pytest.fixture
def model(model_folder: Folder) -> str:
    return str(model_folder.path)


@pytest.fixture(scope="module")
def data(model_folder: Folder) -> bytes:
    return hfd.compress(X, model=model_folder.path)


def opened(data: bytes, model: str) -> hfd.pillow_plugin.HfdImageFile:
    image = Image.open(io.BytesIO(data))
    assert isinstance(image, hfd.pillow_plugin.HfdImageFile)
    image.model = model
    return image


@pytest.mark.integration
def test_opening_decodes_nothing_and_importing_hfd_registers_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.hfd").write_bytes(data)
    script = (
        "import sys\n"
        "from PIL import Image, UnidentifiedImageError\n"
        "import hfd\n"
        "try:\n"
        "    Image.open(sys.argv[1])\n"
        "except UnidentifiedImageError:\n"
        "    import hfd.pillow_plugin\n"
        "    image = Image.open(sys.argv[1])\n"
        "    print(image.format, image.size, image.mode, image.info, image.get_format_mimetype())\n"
        "    print(sorted({'torch', 'compressai', 'pickle5'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.hfd")], capture_output=True, text=True, check=True
    )
    info = {"bpp": 8 * len(data) / X[..., 0].size, "rate": 128, "model": unpack(data).model.hex()}
    assert done.stdout == f"HFD (80, 48) RGB {info} image/x-hfd\n[]\n"


def test_the_pixels_are_those_of_decompress(data: bytes, model: str, tmp_path: Path) -> None:
    wanted = hfd.decompress(data, model=model)
    image = opened(data, model)
    assert image.tobytes() == wanted.tobytes()
    assert image.getpixel((3, 4)) == wanted.getpixel((3, 4))
    plain = opened(data, model)
    plain.options = {"realism": 0.0}
    assert plain.convert("L").tobytes() == hfd.decompress(data, model=model, realism=0.0).convert("L").tobytes()
    (tmp_path / "x.hfd").write_bytes(data)
    with Image.open(tmp_path / "x.hfd") as image:
        assert isinstance(image, hfd.pillow_plugin.HfdImageFile)
        image.model = model
        image.thumbnail((20, 20))
        assert image.size == (20, 12)


def test_saving_is_compressing(model: str, tmp_path: Path) -> None:
    Image.fromarray(X).save(tmp_path / "x.hfd", model=model)
    assert (tmp_path / "x.hfd").read_bytes() == hfd.compress(X, model=model)
    stream = io.BytesIO()
    Image.fromarray(X).save(stream, "HFD", model=model, num_bytes=500)
    assert len(stream.getvalue()) <= 500
    sizes = []
    for quality in (5, 95):
        Image.fromarray(X).save(tmp_path / "x.hfd", model=model, quality=quality)
        sizes.append((tmp_path / "x.hfd").stat().st_size)
    assert sizes[0] < sizes[1]
    Image.fromarray(X).save(tmp_path / "x.hfd", model=model, bpp=1.0)
    assert 8 * (tmp_path / "x.hfd").stat().st_size <= X[..., 0].size
    Image.fromarray(X).save(tmp_path / "x.hfd", model=model, realism=0.5, seed=3)
    assert (tmp_path / "x.hfd").read_bytes() == hfd.compress(X, model=model, realism=0.5, seed=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "F"])
def test_every_mode_is_saved(mode: str, model: str) -> None:
    source = Image.new("I;16", (80, 48), 1000) if mode == "I;16" else Image.fromarray(X).convert(mode)
    if mode in ("LA", "RGBA"):
        source.putalpha(Image.linear_gradient("L").resize(source.size))
    stream = io.BytesIO()
    source.save(stream, "HFD", model=model)
    image = opened(stream.getvalue(), model)
    kept = {"1": "L", "L": "L", "LA": "LA", "I;16": "L", "F": "L", "RGBA": "RGBA"}
    assert (image.mode, image.size) == (kept.get(mode, "RGB"), (80, 48))
    if image.mode in ("LA", "RGBA"):
        assert image.getchannel("A").tobytes() == source.getchannel("A").tobytes()


def test_metadata_that_are_given_come_back(model: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    stream = io.BytesIO()
    Image.fromarray(X).save(stream, "HFD", model=model, exif=exif)
    image = opened(stream.getvalue(), model)
    assert dict(image.getexif()) == {0x010F: "a camera"}
    again = io.BytesIO()
    image.save(again, "JPEG", exif=image.info["exif"])
    assert dict(Image.open(again).getexif()) == {0x010F: "a camera"}
    Image.fromarray(X).save(stream := io.BytesIO(), "HFD", model=model)
    assert set(unpack(stream.getvalue()).sections) == {0}


def test_a_save_that_fails_leaves_no_file(model: str, tmp_path: Path) -> None:
    for settings, words in (
        ({"num_bytes": 5}, "target: got 5 bytes, expected at least"),
        ({"quality": 101}, "quality: got 101, expected a whole number from 1 to 100"),
        ({"bpp": 1.0, "quality": 5}, "expected one of them"),
        ({"model": str(tmp_path)}, "got no model there"),
    ):
        with pytest.raises(OSError, match=words):
            Image.fromarray(X).save(tmp_path / "x.hfd", **({"model": model} | settings))
        assert not (tmp_path / "x.hfd").exists()


def test_a_damaged_file_is_no_image(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(data[:length]))
    for place in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(bytes(damaged)))


def test_damage_found_only_by_decoding_is_an_os_error(data: bytes, model: str) -> None:
    with pytest.raises(OSError, match="expected one of the shipped models"):
        Image.open(io.BytesIO(data)).load()
    held = unpack(data)
    other = pack(Container(held.width, held.height, held.model, held.rate, held.checksum ^ 1, held.sections))
    image = opened(other, model)
    for _ in range(2):  # and again, rather than a black picture
        with pytest.raises(OSError, match="checksum of symbols"):
            image.load()


def test_a_huge_picture_is_refused_by_pillows_own_guard() -> None:
    huge = pack(Container(2**16, 2**15, bytes(4), 128, 0, {0: bytes(8)}))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(huge))


def test_a_compressed_file_is_no_source_of_pictures(data: bytes) -> None:
    with pytest.raises(DataError, match="expected an image") as caught:
        load_picture(data, name="x.hfd")
    assert caught.value.reason == "not-an-image"


def test_there_and_back_with_a_shipped_model(tmp_path: Path) -> None:
    x = np.asarray(Image.fromarray(photograph(128, 192)))
    Image.fromarray(x).save(tmp_path / "x.hfd", bpp=0.5)
    with Image.open(tmp_path / "x.hfd") as image:
        assert image.info["bpp"] <= 0.5
        decoded = np.asarray(image)
    data = (tmp_path / "x.hfd").read_bytes()
    np.testing.assert_array_equal(decoded, np.asarray(hfd.decompress(data)))
    assert np.square(decoded.astype(float) - x).mean() < np.square(x - x.mean(axis=(0, 1))).mean() / 3
