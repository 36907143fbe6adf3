"""Parts of a scaled picture: equal in every bit to the same parts of the whole, and made only where that is faster."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

import hfd.data.examine
from hfd.data.crops import CropSettings, content_hash, cut_crops, cut_source, load_source, reduce_source
from hfd.data.examine import examine
from hfd.data.filters import FilterSettings
from hfd.data.scaling import Scaling
from hfd.errors import DataError
from hfd.geometry.box import Box
from tests.support.pictures import photograph

SETTINGS = CropSettings(
    seed=3, source_crop_px=64, min_side_px=16, max_crops_per_photo=1, downscale=0.75, validation_share=0.0,
    max_pixels=10**6,
)  # fmt: skip


def noise(height: int, width: int) -> Image.Image:
    x = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(x)


def jpeg(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


sides = st.integers(20, 300)
shares = st.floats(0.0, 1.0)


@given(
    st.tuples(sides, sides), st.tuples(shares, shares), st.tuples(shares, shares), st.lists(st.tuples(*[shares] * 4))
)
def test_parts_are_those_of_the_whole_picture(
    have: tuple[int, int],
    factors: tuple[float, float],
    missing: tuple[float, float],
    places: list[tuple[float, float, float, float]],
) -> None:
    picture = noise(have[1], have[0])
    width, height = (max(1, round(side * (0.05 + 1.2 * factor))) for side, factor in zip(have, factors, strict=True))
    extent = (have[0] - missing[0], have[1] - missing[1])
    whole = picture.resize((width, height), Image.Resampling.LANCZOS, box=(0, 0, *extent))
    scaling, boxes = Scaling(picture, (width, height), extent), []
    assume(scaling.rows_first)
    for top, left, tall, wide in places:
        first, start = int(top * (height - 1)), int(left * (width - 1))
        boxes.append(Box(first, start, 1 + int(tall * (height - first - 1)), 1 + int(wide * (width - start - 1))))
    for box, part in zip(boxes, scaling.parts(boxes), strict=True):
        assert part.size == (box.width, box.height)
        assert np.array_equal(np.asarray(part), np.asarray(whole.crop(box.corners)))


@pytest.mark.parametrize("crops", [1, 3, 40])
@pytest.mark.parametrize(("height", "width", "orientation"), [(601, 803, 1), (601, 803, 6), (1201, 400, 1)])
@pytest.mark.parametrize(("downscale", "in_decoder"), [(None, False), (0.75, False), (0.3, False), (0.3, True)])
def test_crops_of_a_large_photograph_are_those_of_its_whole(
    crops: int, height: int, width: int, orientation: int, downscale: float | None, in_decoder: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(Image.fromarray(photograph(height, width)), exif=exif)
    settings = replace(SETTINGS, max_crops_per_photo=crops, downscale=downscale, downscale_in_decoder=in_decoder)
    source, content = load_source(data, "a.jpg", settings), content_hash(data)
    expected = cut_crops(reduce_source(source, data, settings), "a.jpg", content, settings)
    got = cut_source(source, data, "a.jpg", content, settings)
    assert [(crop.id, crop.x.shape, crop.x.tobytes()) for crop in got] == [
        (crop.id, crop.x.shape, crop.x.tobytes()) for crop in expected
    ]


def test_parts_are_made_only_where_they_take_less_work() -> None:
    scaling = Scaling(noise(400, 600), (300, 200), (600.0, 400.0))
    assert scaling.is_faster([Box(50, 50, 64, 64)])
    assert scaling.is_faster([Box(50, 50, 64, 64), Box(50, 114, 64, 64)])
    assert not scaling.is_faster([Box(0, 0, 200, 300)])
    assert scaling.rows_first and not Scaling(noise(600, 290), (145, 300), (290.0, 600.0)).rows_first
    assert not scaling.is_faster([Box(top, left, 64, 64) for top in (0, 64, 128) for left in (0, 64, 128, 192)])


@pytest.mark.parametrize(
    ("filters", "hashed", "embedded"),
    [
        (FilterSettings(min_sharpness=0.0), False, False),
        (FilterSettings(min_colourfulness=0.0), False, False),
        (FilterSettings(max_clipped_share=1.0), False, False),
        (FilterSettings(), True, False),
        (FilterSettings(), False, True),
    ],
)
def test_measures_and_hashes_of_the_whole_picture_change_no_crop(
    monkeypatch: pytest.MonkeyPatch, filters: FilterSettings, hashed: bool, embedded: bool
) -> None:
    data = jpeg(Image.fromarray(photograph(301, 403)))
    whole = examine(data, "a.jpg", SETTINGS, filters, hashed=hashed, embedded=embedded)
    assert whole.error is None

    def never(*_: object) -> object:
        raise AssertionError("the whole picture was scaled")

    monkeypatch.setattr(hfd.data.examine, "reduce_source", never)
    parts = examine(data, "a.jpg", SETTINGS, FilterSettings(min_jpeg_quality=1, max_aspect_ratio=9.0), hashed=False)
    assert [(crop.id, crop.x.tobytes()) for crop in parts.crops] == [
        (crop.id, crop.x.tobytes()) for crop in whole.crops
    ]


def test_a_picture_that_is_too_small_is_refused_before_it_is_scaled() -> None:
    data = jpeg(noise(200, 12))
    with pytest.raises(DataError, match="got 12 x 200 px") as caught:
        cut_source(load_source(data, "a.jpg", SETTINGS), data, "a.jpg", content_hash(data), SETTINGS)
    assert caught.value.reason == "too-small"
