"""JPEGs that their decoder scales: the same crops as of a full decode, but for the filter."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hfd.data.crops import CropSettings, load_source, reduce_source, reduced_size
from hfd.data.examine import examine
from hfd.data.filters import FilterSettings
from hfd.errors import DataError
from hfd.image.load import load_picture
from hfd.image.reduced import load_reduced
from tests.support.pictures import photograph

PLAIN = CropSettings(
    seed=3,
    source_crop_px=64,
    min_side_px=16,
    max_crops_per_photo=4,
    downscale=0.5,
    validation_share=0.0,
    max_pixels=10**6,
)
SCALED = replace(PLAIN, downscale_in_decoder=True)


def smooth(height: int, width: int) -> Image.Image:
    """A photograph without its finest detail, on which any two good filters agree."""
    picture = Image.fromarray(photograph(height // 8 + 2, width // 8 + 2, seed=5))
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def psnr(a: Image.Image, b: Image.Image) -> float:
    x, y = (np.asarray(picture, dtype=np.float64) for picture in (a, b))
    assert x.shape == y.shape
    return float(10 * np.log10(255.0**2 / np.square(x - y).mean()))


def both(data: bytes, factor: float = 0.5) -> tuple[Image.Image, Image.Image, int]:
    """The pictures of a full and of a scaled decode, and the scale of the latter."""
    full, scaled = (replace(settings, downscale=factor) for settings in (PLAIN, SCALED))
    source = load_source(data, "a.jpg", scaled)
    plain = reduce_source(load_source(data, "a.jpg", full), data, full)
    return plain, reduce_source(source, data, scaled), source.scale


@pytest.mark.parametrize("size", [(200, 240), (201, 241), (203, 238), (197, 255)])
@pytest.mark.parametrize(
    ("factor", "scale"), [(0.5, 2), (0.4, 2), (0.3, 2), (0.26, 2), (0.25, 4), (0.2, 4), (0.125, 8), (0.1, 8)]
)
def test_the_picture_is_that_of_a_full_decode_but_for_the_filter(
    size: tuple[int, int], factor: float, scale: int
) -> None:
    data = jpeg(smooth(*size))
    full, scaled, used = both(data, factor)
    assert full.size == scaled.size == reduced_size(size[::-1], replace(PLAIN, downscale=factor))
    assert used == scale
    assert psnr(full, scaled) > 28.0
    # In its place: less like the other picture when it is moved by a sample.
    x = np.asarray(scaled)
    for axis in (0, 1):
        for step in (-1, 1):
            assert psnr(full, scaled) > psnr(full, Image.fromarray(np.roll(x, step, axis=axis))) + 3.0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_applies_to_the_picture_and_its_full_sides(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(smooth(201, 240), exif=exif)
    source = load_source(data, "a.jpg", SCALED)
    whole = load_picture(data)
    assert source.size == whole.size and source.scale == 2
    full, scaled, _ = both(data)
    assert psnr(full, scaled) > 30.0
    found = examine(data, "a.jpg", SCALED, FilterSettings(), hashed=False)
    assert (found.width, found.height) == whole.size


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_grey_four_inks_and_progressive_files(mode: str, progressive: bool) -> None:
    full, scaled, used = both(jpeg(smooth(160, 200).convert(mode), progressive=progressive))
    assert used == 2 and psnr(full, scaled) > 30.0


def test_crops_lie_in_the_same_places_under_the_same_names() -> None:
    data = jpeg(smooth(301, 400))
    plain, scaled = (examine(data, "a", settings, FilterSettings(), hashed=True) for settings in (PLAIN, SCALED))
    assert [crop.id for crop in plain.crops] == [crop.id for crop in scaled.crops] and len(plain.crops) == 4
    assert (plain.split, plain.content) == (scaled.split, scaled.content)
    assert plain.hash is not None and scaled.hash is not None
    assert (plain.hash ^ scaled.hash).bit_count() <= 4
    for a, b in zip(plain.crops, scaled.crops, strict=True):
        assert a.x.shape == b.x.shape and psnr(Image.fromarray(a.x), Image.fromarray(b.x)) > 30.0
        assert not np.array_equal(a.x, b.x)  # another filter: the setting changes the key


def same(a: Image.Image, b: Image.Image) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def pixels_of(file_format: str, **options: object) -> tuple[bytes, npt.NDArray[np.uint8]]:
    buffer = io.BytesIO()
    smooth(120, 150).save(buffer, file_format, **options)
    return buffer.getvalue(), np.asarray(load_picture(buffer.getvalue()))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_other_formats_are_read_as_without_the_setting(file_format: str) -> None:
    data, x = pixels_of(file_format)
    source = load_reduced(data, lambda size: (size[0] // 2, size[1] // 2), name="a", max_pixels=10**6)
    assert source.scale == 1 and np.array_equal(np.asarray(source.picture), x)
    assert same(*both(data)[:2])


def test_a_picture_that_would_be_too_small_stays_whole() -> None:
    settings = replace(SCALED, min_side_px=64)
    data = jpeg(smooth(120, 300))
    source = load_source(data, "a", settings)
    assert source.scale == 1 and reduce_source(source, data, settings).size == (300, 120)
    assert same(reduce_source(source, data, settings), load_picture(data))


def test_limits_and_faults_are_those_of_the_full_picture() -> None:
    data = jpeg(smooth(200, 240))
    with pytest.raises(DataError, match="200") as error:
        load_source(data, "a", replace(SCALED, max_pixels=200 * 240 - 1))
    assert error.value.reason == "too-large"
    with pytest.raises(DataError) as error:
        load_source(data[: len(data) // 2], "a", SCALED)
    assert error.value.reason == "truncated"
