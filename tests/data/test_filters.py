"""Measures of photographs against closed forms and files of known quality."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from hfd.data.filters import (
    FilterSettings,
    Measures,
    aspect_ratio,
    check_encoding,
    check_measures,
    clipped_share,
    colourfulness,
    jpeg_quality,
    measure,
    sharpness,
)
from hfd.errors import ConfigError, DataError
from tests.support.pictures import photograph


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photograph(48, 64)).save(buffer, kind, **options)
    return buffer.getvalue()


def flat(red: int, green: int, blue: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.new("RGB", size, (red, green, blue))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"optimize": True}])
def test_the_quality_of_a_file_that_pillow_wrote_is_exact(options: dict[str, object]) -> None:
    assert [jpeg_quality(encoded("JPEG", quality=q, **options)) for q in range(1, 101)] == list(range(1, 101))


def test_the_quality_of_a_grey_file_is_exact_too() -> None:
    for quality in (5, 50, 75, 95):
        buffer = io.BytesIO()
        Image.fromarray(photograph(40, 40)[..., 0]).save(buffer, "JPEG", quality=quality)
        assert jpeg_quality(buffer.getvalue()) == quality


def test_a_file_with_tables_of_its_own_gets_the_nearest_quality() -> None:
    """Flat tables in place of the standard's: finer steps are still a higher quality."""
    found = [jpeg_quality(encoded("JPEG", qtables=[[step] * 64, [step] * 64])) for step in (1, 4, 16, 60)]
    assert found[0] == 100 and all(a > b for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_have_no_jpeg_quality(kind: str) -> None:
    assert jpeg_quality(encoded(kind)) is None


@given(st.integers(0, 2000))
def test_a_cut_file_has_its_quality_or_none(length: int) -> None:
    assert jpeg_quality(encoded("JPEG", quality=80)[:length]) in (80, None)


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_jpegs_first_two_are_survived(data: bytes) -> None:
    found = jpeg_quality(b"\xff\xd8" + data)
    assert found is None or 1 <= found <= 100


def test_colour_has_a_closed_form() -> None:
    assert colourfulness(flat(90, 90, 90)) == 0.0
    # rg = R, yb = R / 2, no spread.
    assert colourfulness(flat(200, 0, 0)) == pytest.approx(0.3 * math.hypot(200, 100))
    # Half red, half cyan: rg = +-100, yb = +-50 about a mean of zero.
    halves = np.zeros((20, 20, 3), dtype=np.uint8)
    halves[:, :10], halves[:, 10:] = (100, 0, 0), (0, 100, 100)
    rg, yb = np.array([100, -100]), np.array([50, -50])
    expected = math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())
    assert colourfulness(Image.fromarray(halves)) == pytest.approx(expected)


def test_colour_noise_in_a_grey_picture_hardly_counts() -> None:
    noise = np.random.default_rng(0).integers(118, 139, (1024, 1024, 3)).astype(np.uint8)
    small = colourfulness(Image.fromarray(noise[:200, :200]))
    assert colourfulness(Image.fromarray(noise)) < 0.5 * small


def test_sharpness_has_a_closed_form() -> None:
    assert sharpness(flat(7, 7, 7)) == 0.0
    ramp = np.broadcast_to(np.arange(50, dtype=np.uint8)[None, :, None], (20, 50, 3))
    assert sharpness(Image.fromarray(np.ascontiguousarray(ramp))) == 0.0
    # A chequerboard of 0 and a: the Laplacian is +4a and -4a in equal numbers.
    board = np.indices((22, 22)).sum(axis=0) % 2 * 10
    picture = Image.fromarray(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    assert sharpness(picture) == pytest.approx(40.0**2)
    assert sharpness(flat(1, 2, 3, (2, 9))) == 0.0


def test_blur_lowers_sharpness() -> None:
    picture = Image.fromarray(photograph(200, 200))
    blurred = [sharpness(picture.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    assert all(a > 2 * b for a, b in itertools.pairwise(blurred))


def test_clipping_is_counted_in_samples() -> None:
    assert clipped_share(flat(0, 255, 128)) == pytest.approx(2 / 3)
    assert clipped_share(flat(1, 254, 128)) == 0.0
    half = np.full((10, 10, 3), 100, dtype=np.uint8)
    half[:5] = 255
    assert clipped_share(Image.fromarray(half)) == 0.5


def test_the_aspect_ratio_does_not_know_up_from_sideways() -> None:
    assert aspect_ratio(300, 100) == aspect_ratio(100, 300) == 3.0


def test_nothing_is_measured_that_nothing_limits() -> None:
    picture = Image.fromarray(photograph(40, 60))
    assert measure(picture, FilterSettings(min_jpeg_quality=5, max_aspect_ratio=2)) == Measures()
    all_of_it = FilterSettings(min_colourfulness=0, min_sharpness=0, max_clipped_share=1)
    assert measure(picture, all_of_it) == Measures(colourfulness(picture), sharpness(picture), clipped_share(picture))


LIMITS = FilterSettings(60, 2.0, 5.0, 20.0, 0.1)


@pytest.mark.parametrize(
    ("size", "measures", "reason"),
    [
        ((201, 100), Measures(5.0, 20.0, 0.1), "aspect-ratio"),
        ((100, 200), Measures(4.9, 20.0, 0.1), "grey"),
        ((200, 100), Measures(5.0, 19.9, 0.1), "blurred"),
        ((200, 100), Measures(5.0, 20.0, 0.11), "clipped"),
    ],
)
def test_each_limit_has_its_reason_and_one_line(size: tuple[int, int], measures: Measures, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        check_measures("a/photo", size, measures, LIMITS)
    assert caught.value.reason == reason
    assert str(caught.value).startswith("a/photo: got a") and "prepare.m" in str(caught.value)
    check_measures("a/photo", size, measures, FilterSettings())


def test_a_picture_within_every_limit_passes() -> None:
    check_measures("photo", (200, 100), Measures(5.0, 20.0, 0.1), LIMITS)
    check_encoding("photo", 60, LIMITS)
    check_encoding("photo", None, LIMITS)
    with pytest.raises(DataError, match=r"^photo: got an estimated JPEG quality of 59, expected at least 60\. ") as low:
        check_encoding("photo", 59, LIMITS)
    assert low.value.reason == "jpeg-quality"


def test_an_impossible_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^max_aspect_ratio: got 0\.5"):
        FilterSettings(max_aspect_ratio=0.5)
