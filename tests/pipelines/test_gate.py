"""The comparison of a candidate with a champion: against the distances' own definitions, and at every limit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from pipelines.gate import Criterion, Limits, Sampled, compare, decoding, sanity, table

LIMITS = Limits(("FD-EffNet", "KD-EffNet"), max_psnr_loss_db=0.1, max_bpp_rise=0.02, draws=50)


def sampled(shift: float = 0.0, *, images: int = 8, psnr: float = 28.0, bpp: float = 0.25, seed: int = 0) -> Sampled:
    """Features of 3 patches an image, those decoded ``shift`` away from the original's."""
    rng = np.random.default_rng(seed)
    names = [f"image {i}" for i in range(images)]
    originals = {name: rng.normal(size=(3, 6)).astype(np.float32) for name in names}
    noise = {name: rng.normal(size=(3, 6)).astype(np.float32) for name in names}
    return Sampled(
        bpp={name: bpp * (1 + 0.1 * i) for i, name in enumerate(names)},
        psnr={name: psnr + i for i, name in enumerate(names)},
        features={name: originals[name] + shift * (1 + 0.1 * noise[name]) for name in names},
        originals=originals,
    )


def by_name(criteria: list[Criterion]) -> dict[str, Criterion]:
    return {criterion.name: criterion for criterion in criteria}


def test_a_better_candidate_passes_everything_and_the_way_back_does_not() -> None:
    worse, better = sampled(2.0), sampled(0.5, psnr=28.05, bpp=0.251)
    assert all(criterion.passed for criterion in compare(worse, better, LIMITS))
    back = by_name(compare(better, worse, LIMITS))
    forth = by_name(compare(worse, better, LIMITS))
    assert not back["FD-EffNet"].passed and not back["KD-EffNet"].passed
    for name in ("FD-EffNet", "KD-EffNet", "PSNR dB", "bpp"):
        assert back[name].difference == pytest.approx(-(forth[name].difference or math.nan))
        assert back[name].low == pytest.approx(-(forth[name].high or math.nan), rel=0.2)


def test_the_figures_are_the_distances_of_the_report() -> None:
    champion, candidate = sampled(2.0), sampled(0.5)
    found = by_name(compare(champion, candidate, LIMITS))
    original = np.concatenate(list(champion.originals.values()))
    for side, model in (("champion", champion), ("candidate", candidate)):
        decoded = np.concatenate(list(model.features.values()))
        fd = frechet_distance(GaussianStats.of(original), GaussianStats.of(decoded))
        assert getattr(found["FD-EffNet"], side) == pytest.approx(fd, rel=1e-6)
        assert getattr(found["KD-EffNet"], side) == pytest.approx(kernel_distance(original, decoded), rel=1e-6)
        assert getattr(found["PSNR dB"], side) == pytest.approx(np.mean(list(model.psnr.values())))


def test_the_champion_does_not_beat_itself() -> None:
    found = by_name(compare(sampled(1.0), sampled(1.0), LIMITS))
    assert {name for name, criterion in found.items() if not criterion.passed} == {"FD-EffNet", "KD-EffNet"}
    assert all(criterion.difference == pytest.approx(0.0, abs=1e-12) for criterion in found.values())


def test_better_within_the_interval_is_not_better() -> None:
    """Half of the images gain and half lose: the sum is a gain that another drawing might not show."""
    champion, base = sampled(1.0, images=6), sampled(1.0, images=6)
    features = {name: rows * (0.7 if i % 2 else 1.25) for i, (name, rows) in enumerate(base.features.items())}
    found = by_name(compare(champion, dataclasses.replace(base, features=features), LIMITS))["KD-EffNet"]
    assert found.low is not None and found.high is not None
    assert found.low < 0.0 < found.high and not found.passed


@pytest.mark.parametrize(
    ("name", "change", "passed"),
    [
        ("PSNR dB", {"psnr": 27.91}, True), ("PSNR dB", {"psnr": 27.89}, False), ("PSNR dB", {"psnr": 40.0}, True),
        ("bpp", {"bpp": 0.2549}, True), ("bpp", {"bpp": 0.2551}, False), ("bpp", {"bpp": 0.1}, True),
        ("PSNR dB", {"psnr": math.nan}, False), ("PSNR dB", {"psnr": math.inf}, False),
        ("bpp", {"bpp": math.nan}, False),
    ],
)  # fmt: skip
def test_psnr_and_bpp_have_their_tolerances(name: str, change: dict[str, float], passed: bool) -> None:
    assert by_name(compare(sampled(2.0), sampled(0.5, **change), LIMITS))[name].passed is passed


@given(loss=st.floats(0.0, 2.0), limit=st.floats(0.0, 2.0))
def test_a_tolerance_is_kept_to_whatever_it_is(loss: float, limit: float) -> None:
    limits = dataclasses.replace(LIMITS, distances=(), max_psnr_loss_db=limit, draws=2)
    found = by_name(compare(sampled(), sampled(psnr=28.0 - loss), limits))["PSNR dB"]
    if abs(loss - limit) > 1e-6:
        assert found.passed is (loss <= limit)


def test_other_images_are_no_comparison() -> None:
    champion, candidate = sampled(2.0), sampled(0.5)
    fewer = dataclasses.replace(candidate, **{
        field: dict(list(getattr(candidate, field).items())[1:]) for field in ("bpp", "psnr", "features", "originals")
    })  # fmt: skip
    found = by_name(compare(champion, fewer, LIMITS))
    assert (found["images"].champion, found["images"].candidate, found["images"].passed) == (8.0, 7.0, False)
    assert found["FD-EffNet"].passed  # over those that both have
    nothing = dataclasses.replace(candidate, bpp={}, psnr={}, features={}, originals={})
    assert not any(criterion.passed for criterion in compare(champion, nothing, LIMITS))


def test_what_cannot_be_measured_is_not_passed() -> None:
    one = by_name(compare(sampled(2.0, images=1), sampled(0.5, images=1), LIMITS))
    assert (one["FD-EffNet"].difference, one["FD-EffNet"].passed) == (None, False)
    broken = sampled(0.5)
    next(iter(broken.features.values()))[0, 0] = np.nan
    assert not by_name(compare(sampled(2.0), broken, LIMITS))["KD-EffNet"].passed


def test_the_order_of_images_changes_nothing() -> None:
    champion, candidate = sampled(2.0), sampled(0.5)
    turned = dataclasses.replace(candidate, **{
        field: dict(reversed(getattr(candidate, field).items())) for field in ("bpp", "psnr", "features", "originals")
    })  # fmt: skip
    assert compare(champion, turned, LIMITS) == compare(champion, candidate, LIMITS)


def test_a_first_champion_is_sane() -> None:
    criteria = sanity(sampled(0.5), LIMITS.distances)
    assert all(criterion.passed for criterion in criteria)
    assert by_name(criteria)["FD-EffNet"].candidate is not None
    for psnr in (math.nan, math.inf):
        assert [one.name for one in sanity(sampled(psnr=psnr), LIMITS.distances) if not one.passed] == ["PSNR dB"]
    empty = Sampled({}, {}, {}, {})
    assert {one.name for one in sanity(empty, ("FD-EffNet",)) if not one.passed} == {"PSNR dB", "bpp", "images"}
    assert decoding(True).passed and not decoding(False).passed


def test_the_table_shows_every_criterion_and_what_failed() -> None:
    lines = table([*compare(sampled(2.0), sampled(0.5, psnr=20.0), LIMITS), decoding(True)]).splitlines()
    assert lines[0].split() == ["criterion", "champion", "candidate", "difference", "95%", "interval", "limit"]
    names = ["FD-EffNet", "KD-EffNet", "PSNR dB", "bpp", "images", "decodes"]
    assert [line.split("  ")[0] for line in lines[2:]] == names
    assert [line.split()[-1] for line in lines[2:]] == ["pass", "pass", "FAIL", "pass", "pass", "pass"]
    assert lines[4].split()[3:] == ["23.50", "-8.00", "-8.00", "to", "-8.00", "at", "least", "-0.10", "FAIL"]
    assert "at most +0.0068" in lines[5]
