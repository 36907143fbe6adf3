"""Source crops: positions, order, reduction of lossy sources, and errors."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hfd.data.crops import (
    Crop,
    CropSettings,
    content_hash,
    crop_boxes,
    cut_crops,
    is_lossy_source,
    load_source,
    reduce_source,
    split_of,
)
from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box

SETTINGS = CropSettings(
    seed=3,
    source_crop_px=64,
    min_side_px=16,
    max_crops_per_photo=4,
    downscale=None,
    validation_share=0.1,
    max_pixels=10**6,
)
CONTENTS = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(20_000)]

sides = st.integers(1, 700)
contents = st.sampled_from(CONTENTS[:50])
plans = st.builds(
    replace,
    st.just(SETTINGS),
    seed=st.integers(-(2**70), 2**70),
    source_crop_px=st.integers(16, 300),
    max_crops_per_photo=st.integers(1, 30),
)


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(x: npt.NDArray[np.uint8], file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, file_format, **options)
    return buffer.getvalue()


def source_crops(data: bytes, photo: str, settings: CropSettings) -> list[Crop]:
    picture = reduce_source(load_source(data, photo, settings), data, settings)
    return cut_crops(picture, photo, content_hash(data), settings)


def held_bytes(crop: Crop) -> int:
    """Return the bytes that a crop keeps in memory."""
    return len(crop.x.base) if isinstance(crop.x.base, bytes) else np.asarray(crop.x.base).nbytes


@given(sides, sides, contents, plans)
def test_boxes_lie_inside_apart_and_on_one_grid(width: int, height: int, content: str, plan: CropSettings) -> None:
    boxes = crop_boxes(width, height, content=content, settings=plan)
    cell_width, cell_height = min(width, plan.source_crop_px), min(height, plan.source_crop_px)
    covered = np.zeros((height, width), np.int64)
    for left, top, w, h in map(xywh, boxes):
        assert (w, h) == (cell_width, cell_height)
        assert left >= 0 and top >= 0 and left + w <= width and top + h <= height
        covered[top : top + h, left : left + w] += 1
    assert covered.max() == 1
    assert len(boxes) == min(plan.max_crops_per_photo, (width // cell_width) * (height // cell_height))
    assert len({box.left % cell_width for box in boxes}) == len({box.top % cell_height for box in boxes}) == 1


@given(sides, sides, contents, plans)
def test_boxes_are_a_function_of_their_arguments(width: int, height: int, content: str, plan: CropSettings) -> None:
    boxes = crop_boxes(width, height, content=content, settings=plan)
    assert boxes == crop_boxes(width, height, content=content, settings=replace(plan))
    more = replace(plan, max_crops_per_photo=plan.max_crops_per_photo + 3)
    assert crop_boxes(width, height, content=content, settings=more)[: len(boxes)] == boxes
    unrelated = replace(plan, validation_share=0.9, downscale=0.5, max_pixels=1)
    assert crop_boxes(width, height, content=content, settings=unrelated) == boxes


def xywh(box: Box) -> tuple[int, int, int, int]:
    return box.left, box.top, box.width, box.height


def test_boxes_do_not_drift_between_releases() -> None:
    boxes = crop_boxes(300, 200, content=CONTENTS[0], settings=SETTINGS)
    assert list(map(xywh, boxes)) == [(206, 6, 64, 64), (14, 134, 64, 64), (142, 6, 64, 64), (14, 70, 64, 64)]


def test_offsets_and_cells_are_uniform() -> None:
    plan = replace(SETTINGS, max_crops_per_photo=1)
    boxes = [crop_boxes(64 * 3 + 7, 64, content=content, settings=plan)[0] for content in CONTENTS[:8000]]
    lefts = np.array([box.left for box in boxes])
    # 3 cells and offsets 0 to 7: 24 equally likely places, chi-squared with 23 degrees of freedom.
    counts = np.bincount((lefts // 64) * 8 + lefts % 64, minlength=24)
    assert counts.size == 24
    expected = len(boxes) / 24
    assert ((counts - expected) ** 2 / expected).sum() < 60  # p = 4e-5, and the draw is fixed


def test_seed_and_content_move_the_boxes() -> None:
    def boxes(content: str, seed: int) -> list[Box]:
        return crop_boxes(500, 400, content=content, settings=replace(SETTINGS, seed=seed))

    assert boxes(CONTENTS[0], 0) != boxes(CONTENTS[0], 1)
    assert boxes(CONTENTS[0], 0) != boxes(CONTENTS[1], 0)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_boxes_refuse_an_empty_picture(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 x 1"):
        crop_boxes(*size, content=CONTENTS[0], settings=SETTINGS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_split_shares_are_binomial(share: float, seed: int) -> None:
    splits = [split_of(content, seed=seed, validation_share=share) for content in CONTENTS]
    deviation = (len(CONTENTS) * share * (1 - share)) ** 0.5
    assert abs(splits.count("validation") - len(CONTENTS) * share) <= 4 * deviation
    assert set(splits) <= {"train", "validation"}
    assert splits == [split_of(content, seed=seed, validation_share=share) for content in CONTENTS]


def test_split_depends_on_the_seed_and_grows_with_the_share() -> None:
    def validation(seed: int, share: float) -> set[str]:
        return {c for c in CONTENTS if split_of(c, seed=seed, validation_share=share) == "validation"}

    assert validation(0, 0.1) < validation(0, 0.2)
    both = len(validation(0, 0.5) & validation(1, 0.5))
    assert abs(both - len(CONTENTS) / 4) < 4 * (len(CONTENTS) * 3 / 16) ** 0.5


def test_source_crops_are_cut_where_the_boxes_say() -> None:
    x = noise(150, 200)
    data = encoded(x)
    crops = source_crops(data, "cats/a.png", SETTINGS)
    content = hashlib.sha256(data).hexdigest()
    boxes = crop_boxes(200, 150, content=content, settings=SETTINGS)
    assert len(crops) == len(boxes) == 4
    for index, (crop, (left, top, w, h)) in enumerate(zip(crops, map(xywh, boxes), strict=True)):
        assert crop.id == f"{content[:16]}-{index:03d}"
        assert (crop.photo, crop.content) == ("cats/a.png", content) == ("cats/a.png", content_hash(data))
        assert np.array_equal(crop.x, x[top : top + h, left : left + w])
        assert crop.x.flags.c_contiguous and held_bytes(crop) == crop.x.nbytes


def test_a_small_photograph_is_kept_whole() -> None:
    x = noise(16, 50)
    (crop,) = source_crops(encoded(x), "a.png", SETTINGS)
    assert np.array_equal(crop.x, x)
    assert held_bytes(crop) == crop.x.nbytes


def test_duplicates_give_the_same_crops_under_any_key() -> None:
    data = encoded(noise(90, 90))
    first, second = (source_crops(data, key, SETTINGS)[0] for key in ("a.png", "b.png"))
    assert first.id == second.id
    assert np.array_equal(first.x, second.x)


def test_lossy_sources_shrink_and_lossless_ones_do_not() -> None:
    plan = replace(SETTINGS, downscale=0.5, source_crop_px=500)
    x = np.repeat(np.repeat(noise(5, 6), 8, axis=0), 8, axis=1)
    jpeg = encoded(x, "JPEG", quality=90)
    (crop,) = source_crops(jpeg, "a.jpg", plan)
    decoded = Image.open(io.BytesIO(jpeg)).convert("RGB")
    assert np.array_equal(crop.x, np.asarray(decoded.resize((24, 20), Image.Resampling.LANCZOS)))
    (crop,) = source_crops(encoded(x), "a.png", plan)
    assert np.array_equal(crop.x, x)
    for factor in (None, 1.0):
        (crop,) = source_crops(jpeg, "a.jpg", replace(plan, downscale=factor))
        assert np.array_equal(crop.x, np.asarray(decoded))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(32, 80, (16, 40)), (30, 80, (30, 80)), (33, 33, (16, 16)), (31, 31, (16, 16)), (16, 400, (16, 400))],
)
def test_a_lossy_source_shrinks_only_if_it_stays_large_enough(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    plan = replace(SETTINGS, downscale=0.5, source_crop_px=500)
    (crop,) = source_crops(encoded(noise(height, width), "JPEG"), "a.jpg", plan)
    assert crop.x.shape == (*expected, 3)


@pytest.mark.parametrize(("file_format", "size"), [("PNG", (15, 300)), ("JPEG", (300, 15))])
def test_too_small_is_refused_by_name(file_format: str, size: tuple[int, int]) -> None:
    plan = replace(SETTINGS, downscale=0.5)
    with pytest.raises(DataError, match=rf"^a\.img: got {size[1]} x {size[0]} px, expected .* 16 px\.") as caught:
        source_crops(encoded(noise(*size), file_format), "a.img", plan)
    assert caught.value.reason == "too-small"


@pytest.mark.parametrize(
    ("file_format", "options", "lossy"),
    [
        ("JPEG", {}, True),
        ("MPO", {}, True),
        ("AVIF", {}, True),
        ("WEBP", {"quality": 80}, True),
        ("WEBP", {"quality": 80, "icc_profile": b"odd"}, True),
        ("WEBP", {"quality": 80, "save_all": True, "append_images": [Image.new("RGB", (32, 32))]}, True),
        ("WEBP", {"lossless": True}, False),
        ("WEBP", {"lossless": True, "icc_profile": b"odd"}, False),
        ("WEBP", {"lossless": True, "save_all": True, "append_images": [Image.new("RGB", (32, 32))]}, False),
        ("PNG", {}, False),
        ("TIFF", {}, False),
        ("BMP", {}, False),
        ("GIF", {}, False),
    ],
)
def test_lossy_formats_are_recognised(file_format: str, options: dict[str, object], lossy: bool) -> None:
    data = encoded(noise(32, 32), file_format, **options)
    assert is_lossy_source(data) is lossy
    for length in range(60):
        assert is_lossy_source(data[:length]) in {lossy, False}


@given(st.binary(max_size=80), st.sampled_from([b"", b"RIFF1234WEBP", b"\0\0\0\x20ftyp", b"\xff\xd8"]))
def test_lossy_never_fails(tail: bytes, head: bytes) -> None:
    assert is_lossy_source(head + tail) in {True, False}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_side_px", 0),
        ("max_crops_per_photo", 0),
        ("max_pixels", 0),
        ("source_crop_px", 15),
        ("downscale", 0.0),
        ("downscale", 1.01),
        ("downscale", float("nan")),
        ("validation_share", 1.0),
        ("validation_share", -0.1),
        ("validation_share", float("nan")),
    ],
)
def test_settings_outside_their_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: got {value}, expected "):
        CropSettings(**{**vars(SETTINGS), key: value})
