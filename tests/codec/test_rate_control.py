"""The search over models and rates, against trying every one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.autoencoder.rates import DEFAULT_RATE
from hfd.codec.encode import Target
from hfd.codec.quality import RATES, SHIPPED_LADDER, nearest_rate, rung_of
from hfd.codec.rate_control import Choice, RatedEncoder, best_within, finest_within
from hfd.errors import ConfigError, DataError


@dataclass
class FakeModel:
    """Files of given sizes, by rate id, whose error is a function of the id; it counts what is asked of it."""

    sizes: dict[int, int]
    error: Callable[[int], float] = float
    name: str = "fake"
    encoded: list[int] = field(default_factory=list)
    decoded: int = 0
    started: int = 0

    def encoder(self) -> RatedEncoder:
        return self

    @property
    def rates(self) -> list[int]:
        return sorted(self.sizes)

    def start(self) -> Callable[[int], bytes]:
        self.started += 1
        return self._encode

    def _encode(self, rate: int) -> bytes:
        self.encoded.append(rate)
        return bytes([rate]) + bytes(self.sizes[rate] - 1)

    def mse(self, data: bytes) -> float:
        self.decoded += 1
        return self.error(data[0])


def falling(sizes: Sequence[int], first_rate: int = 64) -> dict[int, int]:
    return {first_rate + place: size for place, size in enumerate(sorted(sizes, reverse=True))}


sizes_by_rate = st.lists(st.integers(1, 5000), min_size=1, max_size=129).map(falling)


@given(sizes_by_rate, st.integers(1, 5200))
def test_the_finest_that_fits_is_the_one_that_trying_all_would_find(sizes: dict[int, int], limit: int) -> None:
    found = finest_within(FakeModel(sizes).encoder(), limit)
    fitting = [rate for rate, size in sizes.items() if size <= limit]
    assert (found.choice.rate if found.choice else None) == (min(fitting) if fitting else None)
    if found.choice is None:
        assert found.smallest_bytes == min(sizes.values())
    else:
        assert len(found.choice.data) == sizes[found.choice.rate]


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=129).map(lambda sizes: dict(enumerate(sizes, 64))),
    st.integers(1, 3200),
)
def test_sizes_that_do_not_fall_never_break_the_limit(sizes: dict[int, int], limit: int) -> None:
    """rANS writes whole words, so that a coarser file may be a little larger than a finer one."""
    found = finest_within(FakeModel(sizes).encoder(), limit)
    if sizes[max(sizes)] <= limit:
        assert found.choice is not None
    if found.choice is not None:
        assert len(found.choice.data) <= limit
        finer = found.choice.rate - 1
        assert finer not in sizes or sizes[finer] > limit


@given(
    st.floats(200.0, 1e6), st.floats(10.0, 40.0), st.integers(100, 1_000_000), st.integers(2, 129), st.integers(0, 40)
)
def test_sizes_like_a_codecs_take_few_encodings(
    largest: float, octave: float, limit: int, count: int, header: int
) -> None:
    sizes = {64 + k: header + math.ceil(largest * 2.0 ** (-k / octave)) for k in range(count)}
    model = FakeModel(sizes)
    finest_within(model.encoder(), limit)
    assert len(model.encoded) == len(set(model.encoded))
    assert model.started == 1
    assert len(model.encoded) <= 8


@given(sizes_by_rate, st.integers(1, 5200))
def test_no_sizes_take_many_encodings(sizes: dict[int, int], limit: int) -> None:
    model = FakeModel(sizes)
    finest_within(model.encoder(), limit)
    assert len(model.encoded) <= 7 + math.ceil(math.log2(len(sizes) + 1))


@given(st.lists(st.tuples(sizes_by_rate, st.integers(0, 50)), min_size=1, max_size=3), st.integers(1, 5200))
def test_the_least_error_wins_among_the_best_of_each_model(drawn: list[tuple[dict[int, int], int]], limit: int) -> None:
    models = [
        FakeModel(sizes, error=lambda rate, base=base: base + rate, name=str(k))  # type: ignore[misc]
        for k, (sizes, base) in enumerate(drawn)
    ]
    # With errors that rise with the id, the best of all is the best of the models' finest.
    by_hand = [
        (model.error(rate), size, k)
        for k, model in enumerate(models)
        for rate, size in model.sizes.items()
        if size <= limit
    ]
    encoders = [model.encoder() for model in models]
    if not by_hand:
        smallest = min(min(model.sizes.values()) for model in models)
        with pytest.raises(DataError, match=f"^target: got {limit} bytes, expected at least {smallest}, ") as caught:
            best_within(encoders, limit)
        assert caught.value.reason == "target"
        return
    choice = best_within(encoders, limit)
    model = models[int(choice.name)]
    assert len(choice.data) <= limit
    assert model.error(choice.rate) == min(by_hand)[0]


def test_of_equal_errors_the_smaller_file_wins_and_one_model_is_not_decoded() -> None:
    large = FakeModel({128: 90}, error=lambda _: 1.0, name="large")
    small = FakeModel({128: 70}, error=lambda _: 1.0, name="small")
    assert best_within([large.encoder(), small.encoder()], 100) == Choice("small", 128, bytes([128]) + bytes(69))
    assert (large.decoded, small.decoded) == (1, 1)
    assert best_within([large.encoder()], 100).name == "large"
    assert best_within([large.encoder(), small.encoder()], 80).name == "small"
    assert (large.decoded, small.decoded) == (1, 1)


# --- targets -------------------------------------------------------------------------------------


@given(st.floats(1e-3, 24.0), st.integers(1, 5000), st.integers(1, 5000))
def test_bits_per_pixel_are_of_the_whole_file(bpp: float, width: int, height: int) -> None:
    limit = Target(bpp=bpp).limit_bytes(width, height)
    assert limit is not None
    assert 8 * limit <= bpp * width * height < 8 * (limit + 1)


def test_the_limit_of_a_target_in_bytes() -> None:
    assert Target(num_bytes=70).limit_bytes(9, 9) == 70
    assert Target(quality=70).limit_bytes(9, 9) is None
    assert Target().limit_bytes(9, 9) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quality": 0}, "quality: got 0, expected a whole number from 1 to 100"),
        ({"quality": 50.5}, "quality: got 50.5, expected a whole number"),
        ({"bpp": -1.0}, "bpp: got -1.0, expected a number above 0"),
        ({"bpp": math.inf}, "bpp: got inf, expected a number above 0"),
        ({"num_bytes": 0}, "bytes: got 0, expected a whole number of at least 1"),
        ({"quality": 5, "bpp": 1.0}, "target: got quality and bpp, expected one of them"),
    ],
)
def test_targets_that_cannot_be(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Target(**settings)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


# --- quality -------------------------------------------------------------------------------------

SHIPPED = (["desk-012", "desk-025"], [0.0012, 0.0038])


@pytest.mark.parametrize(
    ("names", "lmbdas"), [SHIPPED, (["one"], [0.004]), (["low", "mid", "high"], [0.001, 0.004, 0.03])]
)
def test_quality_never_gets_coarser(names: list[str], lmbdas: list[float]) -> None:
    rungs = [rung_of(quality, names, lmbdas) for quality in range(1, 101)]
    for lower, higher in pairwise(rungs):
        assert higher.model >= lower.model
        assert higher.model > lower.model or higher.rate <= lower.rate
    assert {rung.model for rung in rungs} == set(range(len(names)))
    assert all(rung.rate in RATES for rung in rungs)


def test_the_corners_of_the_ladder_are_on_it() -> None:
    for quality, name, rate in SHIPPED_LADDER:
        rung = rung_of(quality, *SHIPPED)
        assert (SHIPPED[0][rung.model], rung.rate) == (name, nearest_rate(rate))
    assert (SHIPPED_LADDER[0][0], SHIPPED_LADDER[-1][0]) == (1, 100)
    assert DEFAULT_RATE in RATES


@pytest.mark.parametrize("quality", [0, 101, -3])
def test_a_quality_out_of_range(quality: int) -> None:
    with pytest.raises(ConfigError, match=f"^quality: got {quality}, expected 1 to 100$"):
        rung_of(quality, *SHIPPED)
