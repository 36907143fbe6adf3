"""Examination of one photograph: order of the checks, and the measures kept on rejection."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hfd.data.crops import CropSettings, content_hash, cut_crops, load_source, reduce_source, split_of
from hfd.data.duplicates import perceptual_hash
from hfd.data.examine import examine, format_of
from hfd.data.filters import FilterSettings
from hfd.image.load import load_picture
from tests.support.pictures import photograph

CROPS = CropSettings(
    seed=3, source_crop_px=96, min_side_px=64, max_crops_per_photo=3, downscale=0.75, validation_share=0.2,
    max_pixels=10**6,
)  # fmt: skip
EVERYTHING = FilterSettings(1, 50.0, 0.0, 0.0, 1.0)


def encoded(x: np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, kind, **options)
    return buffer.getvalue()


def test_filters_that_let_pass_change_no_crop() -> None:
    data = encoded(photograph(240, 320), quality=87)
    content = content_hash(data)
    plain = cut_crops(reduce_source(load_source(data, "photo", CROPS), data, CROPS), "photo", content, CROPS)
    for filters in (FilterSettings(), EVERYTHING):
        found = examine(data, "photo", CROPS, filters, hashed=True)
        assert found.error is None and found.content == content
        assert found.split == split_of(content, seed=3, validation_share=0.2)
        assert [(crop.id, crop.x.tobytes()) for crop in found.crops] == [(crop.id, crop.x.tobytes()) for crop in plain]
        assert (found.format, found.jpeg_quality, found.width, found.height) == ("JPEG", 87, 320, 240)
    assert found.measures.sharpness is not None and found.hash is not None
    whole = perceptual_hash(load_picture(data))
    assert whole is not None and (found.hash ^ whole).bit_count() <= 2  # of the reduced picture


def test_a_photograph_of_low_quality_is_not_even_decoded() -> None:
    data = encoded(photograph(240, 320), quality=30)
    found = examine(data[: len(data) // 2], "photo", CROPS, FilterSettings(min_jpeg_quality=50), hashed=True)
    assert found.error is not None and found.error.reason == "jpeg-quality"
    assert found.jpeg_quality == 30 and found.width is None and found.crops == ()


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        (FilterSettings(max_aspect_ratio=1.2), "aspect-ratio"),
        (FilterSettings(min_colourfulness=500.0), "grey"),
        (FilterSettings(min_sharpness=1e6), "blurred"),
        (FilterSettings(max_clipped_share=0.0), "clipped"),
    ],
)
def test_measures_before_a_rejection_are_kept(filters: FilterSettings, reason: str) -> None:
    x = photograph(240, 320)
    x[:50] = 255
    found = examine(encoded(x, "PNG"), "photo", CROPS, filters, hashed=True)
    assert found.error is not None and found.error.reason == reason
    assert (found.width, found.height, found.hash, found.crops) == (320, 240, None, ())


def test_faults_of_decoding_and_size_come_out_as_errors_too() -> None:
    data = encoded(photograph(240, 320))
    for bad, reason in ((b"no picture", "not-an-image"), (data[:3000], "truncated")):
        error = examine(bad, "photo", CROPS, FilterSettings(), hashed=False).error
        assert error is not None and error.reason == reason and str(error).startswith("photo: ")
    small = examine(encoded(photograph(60, 90)), "photo", CROPS, FilterSettings(), hashed=False)
    assert small.error is not None and small.error.reason == "too-small" and small.width == 90


@pytest.mark.parametrize(
    ("kind", "name"),
    [("JPEG", "JPEG"), ("PNG", "PNG"), ("WEBP", "WebP"), ("AVIF", "AVIF"), ("GIF", "GIF"), ("TIFF", "TIFF"),
     ("BMP", "BMP"), ("JPEG2000", "JPEG 2000"), ("PPM", "other")],
)  # fmt: skip
def test_formats_are_known_by_their_first_bytes(kind: str, name: str) -> None:
    assert format_of(encoded(photograph(40, 40), kind)) == name


def test_no_bytes_are_of_no_format() -> None:
    assert format_of(b"") == "other"
