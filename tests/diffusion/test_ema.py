"""Power-function averages against direct sums over all weights of a random walk."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from hfd.diffusion.ema import PowerEma, Profile, combine, exponent_of

SIZE = 400


def random_walk(steps: int, seed: int = 0) -> np.ndarray:
    """(steps, SIZE): weights that settle as they go, each step 1 / sqrt(tau) long."""
    moves = np.random.default_rng(seed).standard_normal((steps, SIZE)) / np.sqrt(np.arange(1, steps + 1))[:, None]
    return moves.cumsum(axis=0).astype(np.float32).astype(np.float64)


def profile(steps: int, sigma_rel: float) -> np.ndarray:
    """The share of each step's weights, (tau^(g + 1) - (tau - 1)^(g + 1)) / t^(g + 1): the power's integral."""
    edges = (np.arange(steps + 1) / steps) ** (exponent_of(sigma_rel) + 1.0)
    return np.diff(edges)


def followed(walk: np.ndarray, sigma_rels: list[float], at: list[int]) -> dict[Profile, np.ndarray]:
    """Return the averages of :class:`PowerEma` after each of the updates ``at``."""
    weight = nn.Parameter(torch.zeros(SIZE))
    ema, stored = PowerEma([weight], sigma_rels), {}
    for step, row in enumerate(walk):
        with torch.no_grad():
            weight.copy_(torch.from_numpy(row))
        ema.update(step)
        if step + 1 in at:
            for sigma_rel, (average,) in ema.averages.items():
                stored[Profile(step + 1, sigma_rel)] = average.double().numpy().copy()
    return stored


def off(got: np.ndarray, expected: np.ndarray) -> float:
    """Relative error, root mean square over root mean square."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_exponent_solves_the_closed_form(sigma_rel: float) -> None:
    g = exponent_of(sigma_rel)
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(sigma_rel, rel=1e-9)
    tau = (np.arange(20_000) + 0.5) / 20_000
    share = profile(20_000, sigma_rel)
    mean = (share * tau).sum()
    assert math.sqrt((share * (tau - mean) ** 2).sum()) == pytest.approx(sigma_rel, rel=1e-3)


def test_exponents_of_the_papers_widths() -> None:
    """EDM2, section 3.1: 16.97 and 6.94 for 5 % and 10 %; and the plain mean at the end of the range."""
    assert exponent_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent_of(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent_of(12**-0.5) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("sigma_rel", [0.02, 0.05, 0.1, 0.25])
def test_average_is_the_sum_over_all_steps(sigma_rel: float) -> None:
    walk = random_walk(500)
    stored = followed(walk, [sigma_rel], at=[1, 2, 7, 500])
    assert np.array_equal(stored[Profile(1, sigma_rel)], walk[0])
    for wanted, average in stored.items():
        assert off(average, profile(wanted.step, sigma_rel) @ walk[: wanted.step]) < 1e-5


def test_widths_do_not_touch_each_other() -> None:
    walk = random_walk(60)
    together = followed(walk, [0.05, 0.2], at=[60])
    for wanted, average in together.items():
        assert np.array_equal(followed(walk, [wanted.sigma_rel], at=[60])[wanted], average)
    assert off(*together.values()) > 0.01


def test_every_parameter_is_averaged_into_float32_of_its_own() -> None:
    weights = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.full((4,), 2.0))]
    ema = PowerEma(weights, [0.1])
    with torch.no_grad():
        for weight in weights:
            weight.add_(1.0)
    (averages,) = ema.averages.values()
    assert [value.dtype for value in averages] == [torch.float32] * 2
    assert not any(value.requires_grad for value in averages)
    assert bool((averages[0] == 1.0).all()) and bool((averages[1] == 2.0).all())
    ema.update(0)
    assert bool((averages[0] == 2.0).all()) and bool((averages[1] == 3.0).all())


def test_state_brings_an_average_back() -> None:
    walk = random_walk(40)
    weight = nn.Parameter(torch.zeros(SIZE))
    whole, first, second = (PowerEma([weight], [0.05, 0.1]) for _ in range(3))
    for step, row in enumerate(walk):
        with torch.no_grad():
            weight.copy_(torch.from_numpy(row))
        whole.update(step)
        if step == 20:
            state = first.state()
            second.load(state)
            first.averages[0.05][0].zero_()
            assert bool(state["0.05"][0].any()) and bool(second.averages[0.05][0].any())
        (first if step < 20 else second).update(step)
        if step == 19:
            assert list(first.state()) == ["0.05", "0.1"]
    for sigma_rel in (0.05, 0.1):
        assert torch.equal(whole.averages[sigma_rel][0], second.averages[sigma_rel][0])


def test_a_state_that_does_not_fit_is_refused() -> None:
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    state = PowerEma(weights, [0.05]).state()
    with pytest.raises(KeyError, match=r"0\.1"):
        PowerEma(weights, [0.1]).load(state)
    with pytest.raises(ValueError, match="shorter"):
        PowerEma(weights, [0.05]).load({"0.05": state["0.05"][:1]})


SNAPSHOTS = [Profile(step, sigma_rel) for step in range(250, 2001, 250) for sigma_rel in (0.05, 0.1)]


@pytest.mark.parametrize("index", range(0, len(SNAPSHOTS), 5))
def test_combining_gives_a_snapshot_back(index: int) -> None:
    factors = combine(SNAPSHOTS, SNAPSHOTS[index])
    assert factors == pytest.approx([float(i == index) for i in range(len(SNAPSHOTS))], abs=1e-6)


@pytest.mark.parametrize("wanted", [Profile(2000, 0.15), Profile(2000, 0.02), Profile(1900, 0.08)])
def test_combining_is_least_squares_of_profiles(wanted: Profile) -> None:
    """Against the same problem with profiles as vectors of 2000 numbers, solved by numpy, to the discretisation.

    The sum of 1 is held there by fitting the differences from the last snapshot.
    """
    columns = np.stack([np.pad(profile(one.step, one.sigma_rel), (0, 2000 - one.step)) for one in SNAPSHOTS], axis=1)
    target = np.pad(profile(wanted.step, wanted.sigma_rel), (0, 2000 - wanted.step))
    last = columns[:, -1:]
    differences, rest = columns[:, :-1] - last, target - last[:, 0]
    best, *_ = np.linalg.lstsq(differences, rest, rcond=None)
    least = float(np.linalg.norm(differences @ best - rest))
    got = float(np.linalg.norm(columns @ np.array(combine(SNAPSHOTS, wanted)) - target))
    assert least <= got * (1 + 1e-9) and got < 1.02 * least


@pytest.mark.parametrize("count", [1, 2, 8, 32])
def test_combining_keeps_constant_weights(count: int) -> None:
    """Factors sum to 1 however few the snapshots are: constant weights stay what they are, whatever the width."""
    snapshots = [Profile(640 * i // count, sigma_rel) for i in range(1, count + 1) for sigma_rel in (0.05, 0.1)]
    for sigma_rel in (0.02, 0.07, 0.15, 0.25):
        factors = combine(snapshots, Profile(640, sigma_rel))
        assert sum(factors) == pytest.approx(1.0, abs=1e-9)
        # Rounding of stored snapshots is not amplified much.
        assert max(abs(factor) for factor in factors) < 15


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Profile(2000, 0.05), 1e-6),
        (Profile(1500, 0.1), 1e-6),
        (Profile(2000, 0.07), 6e-4),
        (Profile(2000, 0.15), 1e-3),
        (Profile(2000, 0.25), 0.03),
        (Profile(2000, 0.03), 6e-3),
        (Profile(1900, 0.08), 8e-3),
    ],
)
def test_averages_of_other_widths_come_out_of_the_snapshots(wanted: Profile, error: float) -> None:
    """Against the sum over all steps, to about half of ``error``; no snapshot is as near by a factor of five."""
    walk = random_walk(2000, seed=1)
    stored = followed(walk, [0.05, 0.1], at=[one.step for one in SNAPSHOTS])
    got = sum(factor * stored[one] for factor, one in zip(combine(SNAPSHOTS, wanted), SNAPSHOTS, strict=True))
    direct = profile(wanted.step, wanted.sigma_rel) @ walk[: wanted.step]
    assert off(got, direct) < error
    if wanted not in stored:
        assert min(off(average, direct) for average in stored.values()) > 5 * off(got, direct)
