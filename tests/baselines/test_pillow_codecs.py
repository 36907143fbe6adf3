"""The baseline codecs and the search for a file size."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image, features

from hfd.baselines import pillow_codecs
from hfd.baselines.pillow_codecs import (
    BASELINES,
    Avif,
    Baseline,
    Encoded,
    Jpeg,
    WebP,
    available_baselines,
    bracket_rate,
)
from hfd.errors import ConfigError, DataError
from hfd.image.load import RgbArray
from hfd.metrics.distortion import psnr


def _photograph(height: int = 160, width: int = 208, seed: int = 0) -> RgbArray:
    """1/f noise, correlated between channels, with two hard edges, as in photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    spectrum = np.fft.fft2(rng.normal(size=(4, height, width))) / np.maximum(frequency, 1 / width)
    shared, *own = np.fft.ifft2(spectrum).real
    x = np.stack([shared + 0.3 * channel for channel in own], axis=-1)
    x = 120 + 40 * (x - x.mean()) / x.std()
    x[height // 3 :, : width // 4] += 50
    x[: height // 2, width // 2 : width // 2 + 20] -= 40
    return np.clip(x, 0, 255).astype(np.uint8)


def _require(baseline: Baseline) -> None:
    if baseline.name in available_baselines()[1]:
        pytest.skip(f"this build of Pillow lacks {baseline.name}")


each_baseline = pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)


@each_baseline
def test_a_file_is_whole_and_decodes_to_a_like_picture(baseline: Baseline) -> None:
    _require(baseline)
    x = _photograph()
    data = baseline.encode(x, 80)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == baseline.name.upper()
        assert image.size == (208, 160)
        assert not set(image.info) & {"exif", "icc_profile", "xmp"}, "metadata are not the picture's bytes"
    decoded = baseline.decode(data)
    assert decoded.shape == x.shape
    assert decoded.dtype == np.uint8
    assert psnr(x, decoded) > 28


@each_baseline
def test_the_file_is_the_same_each_time(baseline: Baseline) -> None:
    _require(baseline)
    x = _photograph()
    assert baseline.encode(x, 40) == baseline.encode(x, 40)
    # Not the memory layout but the pixels count.
    assert baseline.encode(x.copy(order="F"), 40) == baseline.encode(x, 40)


@each_baseline
def test_quality_trades_bytes_for_distortion(baseline: Baseline) -> None:
    _require(baseline)
    x = _photograph()
    files = [baseline.encode(x, quality) for quality in (10, 40, 80)]
    sizes = [len(data) for data in files]
    quality_db = [psnr(x, baseline.decode(data)) for data in files]
    assert sizes == sorted(sizes)
    assert quality_db == sorted(quality_db)
    assert sizes[0] < sizes[2] / 2


@each_baseline
def test_chroma_is_subsampled(baseline: Baseline) -> None:
    """Stripes of one pixel in pure chroma cannot survive 4:2:0, at whatever quality."""
    _require(baseline)
    x = np.full((64, 64, 3), 128, dtype=np.uint8)
    x[:, 0::2] = (178, 103, 128)
    x[:, 1::2] = (78, 153, 128)
    decoded = baseline.decode(baseline.encode(x, 90)).astype(int)
    red_over_green = decoded[..., 0] - decoded[..., 1]
    assert np.abs(red_over_green[:, 0::2].mean() - red_over_green[:, 1::2].mean()) < 30


@each_baseline
def test_the_ends_of_the_qualities_work_and_nothing_beyond(baseline: Baseline) -> None:
    _require(baseline)
    x = _photograph(48, 40)
    for quality in (baseline.qualities[0], baseline.qualities[-1]):
        assert baseline.decode(baseline.encode(x, quality)).shape == x.shape
    for quality in (baseline.qualities[0] - 1, baseline.qualities[-1] + 1):
        with pytest.raises(ConfigError, match=f"{baseline.name} quality: got {quality}, expected"):
            baseline.encode(x, quality)


@each_baseline
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (17, 33)])
def test_odd_and_tiny_sizes_come_back(baseline: Baseline, shape: tuple[int, int]) -> None:
    _require(baseline)
    x = _photograph(64, 64)[: shape[0], : shape[1]]
    assert baseline.decode(baseline.encode(x, 50)).shape == (*shape, 3)


@each_baseline
def test_damaged_files_are_a_data_error(baseline: Baseline) -> None:
    _require(baseline)
    data = baseline.encode(_photograph(), 50)
    with pytest.raises(DataError):
        baseline.decode(data[: len(data) // 2])
    with pytest.raises(DataError, match=baseline.name):
        baseline.decode(b"not a picture at all")


@each_baseline
def test_only_rgb_bytes_are_taken(baseline: Baseline) -> None:
    with pytest.raises(ValueError, match="x: got float64"):
        baseline.encode(np.zeros((16, 16, 3)), 50)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
        baseline.encode(np.zeros((16, 16), dtype=np.uint8), 50)


def test_a_picture_beyond_the_format_is_a_data_error() -> None:
    _require(WebP())
    with pytest.raises(DataError, match="webp: got 16384 x 1 px") as caught:
        WebP().encode(np.zeros((1, 16384, 3), dtype=np.uint8), 50)
    assert caught.value.reason == "codec-limit"


@pytest.mark.parametrize("shape", [(1, 65501, 3), (65501, 1, 3)])
def test_libjpeg_prints_nothing_of_its_limit(shape: tuple[int, int, int], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="expected at most 65500 px a side") as caught:
        Jpeg().encode(np.zeros(shape, dtype=np.uint8), 50)
    assert caught.value.reason == "codec-limit" and capfd.readouterr() == ("", "")
    assert Jpeg().encode(np.zeros((1, 65500, 3), dtype=np.uint8), 50)


def test_jpeg_is_progressive() -> None:
    assert b"\xff\xc2" in Jpeg().encode(_photograph(), 50), "start of a progressive frame (SOF2)"


def test_slower_avif_is_another_file() -> None:
    _require(Avif())
    x = _photograph()
    assert Avif(speed=8).encode(x, 40) != Avif().encode(x, 40)


def test_codecs_that_pillow_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    present, missing = available_baselines()
    assert [baseline.name for baseline in present] == ["jpeg", "webp"]
    assert missing == ("avif",)
    monkeypatch.setattr(features, "check", lambda _feature: True)
    assert available_baselines() == (BASELINES, ())


@dataclass
class _Table:
    """A codec whose file sizes are given."""

    sizes: list[int]
    name: str = "table"
    encoded: list[int] = field(default_factory=list)

    @property
    def qualities(self) -> range:
        return range(10, 10 + len(self.sizes))

    def encode(self, x: RgbArray, quality: int) -> bytes:
        assert x is _PIXEL
        self.encoded.append(quality)
        return bytes(self.sizes[quality - 10])

    def decode(self, data: bytes) -> RgbArray:
        raise NotImplementedError


_PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


def _by_trying_all(baseline: Baseline, x: RgbArray, target: int) -> tuple[int | None, int | None]:
    sizes = [len(baseline.encode(x, quality)) for quality in baseline.qualities]
    return (
        max((size for size in sizes if size <= target), default=None),
        min((size for size in sizes if size >= target), default=None),
    )


def _sizes(found: tuple[Encoded | None, Encoded | None]) -> tuple[int | None, int | None]:
    below, above = found
    return (None if below is None else len(below.data), None if above is None else len(above.data))


@pytest.mark.parametrize("num", [1, 2, 3, 10, 101])
def test_bracket_of_rising_sizes_is_the_nearest(num: int) -> None:
    rng = np.random.default_rng(num)
    sizes = np.cumsum(rng.integers(1, 5, num)).tolist()
    for target in range(1, sizes[-1] + 3):
        assert _sizes(bracket_rate(_Table(sizes), _PIXEL, target)) == _by_trying_all(_Table(sizes), _PIXEL, target)


def test_bracket_repairs_small_steps_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = np.arange(40) * 10 + 10
        swapped = rng.choice(np.arange(0, 39, 4), size=5, replace=False)
        sizes[swapped], sizes[swapped + 1] = sizes[swapped + 1], sizes[swapped].copy()
        for target in (5, 105, 110, 123, 250, 399, 400, 1000):
            table = _Table(sizes.tolist())
            assert _sizes(bracket_rate(table, _PIXEL, target)) == _by_trying_all(table, _PIXEL, target)


def test_bracket_encodes_each_quality_at_most_once_and_few() -> None:
    table = _Table([100 * (i + 1) for i in range(101)])
    bracket_rate(table, _PIXEL, 4321)
    assert len(table.encoded) == len(set(table.encoded))
    assert len(table.encoded) <= 13


def test_bracket_out_of_reach_is_none_on_that_side() -> None:
    table = _Table([100, 200, 300])
    below, above = bracket_rate(table, _PIXEL, 99)
    assert below is None
    assert above == Encoded(bytes(100), 10)
    below, above = bracket_rate(table, _PIXEL, 301)
    assert below == Encoded(bytes(300), 12)
    assert above is None


def test_bracket_met_exactly_is_the_same_file_twice() -> None:
    below, above = bracket_rate(_Table([100, 200, 200, 300]), _PIXEL, 200)
    assert below == above == Encoded(bytes(200), 12), "of one size the higher quality"


def test_bracket_refuses_an_empty_file() -> None:
    with pytest.raises(ConfigError, match="target_bytes: got 0"):
        bracket_rate(_Table([100]), _PIXEL, 0)


@each_baseline
def test_bracket_of_a_real_codec(baseline: Baseline) -> None:
    _require(baseline)
    x = _photograph(96, 128)
    target = len(baseline.encode(x, 45)) + 7
    below, above = bracket_rate(baseline, x, target)
    assert below is not None
    assert above is not None
    assert len(below.data) <= target <= len(above.data)
    assert below.data == baseline.encode(x, below.quality)
    assert above.data == baseline.encode(x, above.quality)
    assert len(above.data) < 1.15 * len(below.data), "a neighbouring quality, not any on that side"


def test_the_bracket_of_jpeg_equals_an_exhaustive_search() -> None:
    x = _photograph(96, 128)
    for target in (900, 1500, 2500, 4000):
        assert _sizes(bracket_rate(Jpeg(), x, target)) == _by_trying_all(Jpeg(), x, target)


def test_the_local_check_repairs_a_size_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [10, 20, 30, 50, 40, 60, 70]
    expected = _by_trying_all(_Table(sizes), _PIXEL, 45)
    assert expected == (40, 50)
    assert _sizes(bracket_rate(_Table(sizes), _PIXEL, 45)) == expected
    monkeypatch.setattr(pillow_codecs, "NEIGHBOURS", 0)
    assert _sizes(bracket_rate(_Table(sizes), _PIXEL, 45)) != expected
