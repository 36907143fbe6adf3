"""Grain: filter, scaling, reach and amount."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hfd.diffusion.grain import REACH_PX, add_grain, amount_for, high_pass

NAN, INF = math.nan, math.inf


def textured(height: int = 96, width: int = 96, batch: int = 1, std: float = 0.03, seed: int = 0) -> Tensor:
    """Grey with fine texture of three colours, far from black and white."""
    noise = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return 0.5 + std * noise


def wave(fy: float, fx: float, side: int = 64) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(side).double(), torch.arange(side).double(), indexing="ij")
    return torch.cos(2 * math.pi * (fy * rows + fx * columns)).expand(1, 2, side, side)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_high_pass_of_a_constant_is_nothing(value: float) -> None:
    assert float(high_pass(torch.full((2, 3, 9, 7), value)).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("fy", "fx", "gain"),
    [
        (0.5, 0.0, 1.0),
        (0.0, 0.5, 1.0),
        (0.5, 0.5, 1.0),
        (0.25, 0.0, 0.75),
        (0.0, 0.182, 0.5),
        (0.1307, 0.1307, 0.5),  # 0.185 cycles/px along the diagonal
        (0.0, 0.03125, 0.0191),
    ],
)
def test_high_pass_is_one_less_the_binomials_gain(fy: float, fx: float, gain: float) -> None:
    """1 - cos^4(pi fy) cos^4(pi fx), away from the edges; half of it at 0.18 cycles/px in any direction."""
    assert 1 - (math.cos(math.pi * fy) * math.cos(math.pi * fx)) ** 4 == pytest.approx(gain, abs=2e-3)
    x = wave(fy, fx)
    got = high_pass(x)[..., 2:-2, 2:-2]
    expected = 1 - (math.cos(math.pi * fy) * math.cos(math.pi * fx)) ** 4
    torch.testing.assert_close(got, expected * x[..., 2:-2, 2:-2], rtol=0.0, atol=1e-7)


def test_no_amount_is_no_change() -> None:
    x = textured()
    assert torch.equal(add_grain(x, 0.0, seeds=[1]), x)
    assert not torch.equal(add_grain(x, 0.01, seeds=[1]), x)


def test_every_picture_has_noise_of_its_own_seed() -> None:
    x = textured(batch=1).expand(3, -1, -1, -1)
    grain = add_grain(x, 1.0, seeds=[4, 5, 4]) - x
    assert torch.equal(grain[0], grain[2])
    correlation = float((grain[0] * grain[1]).mean() / (grain[0].std() * grain[1].std()))
    assert abs(correlation) < 0.05


def test_a_batch_changes_nothing() -> None:
    x, seeds = textured(batch=3), [7, 8, 9]
    together = add_grain(x, 0.8, seeds=seeds)
    for index, seed in enumerate(seeds):
        assert torch.equal(add_grain(x[index : index + 1], 0.8, seeds=[seed])[0], together[index])


def test_grain_is_the_same_in_all_colours() -> None:
    x = textured()
    grain = add_grain(x, 0.5, seeds=[1]) - x
    torch.testing.assert_close(grain[:, 0], grain[:, 1], rtol=0.0, atol=1e-6)
    torch.testing.assert_close(grain[:, 0], grain[:, 2], rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (1, 1)])
def test_grain_depends_on_no_pixel_beyond_its_reach(direction: tuple[int, int]) -> None:
    """A pixel that changes changes the grain up to REACH_PX + 2 away, and there alone."""
    x, seeds = textured(64, 64).double(), [3]
    other = x.clone()
    other[..., 32, 32] += 0.2
    grain, changed = (add_grain(one, 1.0, seeds=seeds) - one for one in (x, other))
    moved = (grain - changed).abs().amax(dim=(0, 1))
    moved[32, 32] = 0.0
    far = REACH_PX + 2
    inside = moved[32 - far : 33 + far, 32 - far : 33 + far].clone()
    assert float(inside[far + far * direction[0], far + far * direction[1]]) > 1e-9
    moved[32 - far : 33 + far, 32 - far : 33 + far] = 0.0
    assert float(moved.max()) < 1e-12


def test_a_flat_picture_stays_flat() -> None:
    x = torch.full((1, 3, 40, 50), 0.37)
    torch.testing.assert_close(add_grain(x, 2.0, seeds=[1]), x, rtol=0.0, atol=1e-6)


def test_grain_follows_the_contrast_about_it() -> None:
    """Sky on the left, texture of two strengths in the middle and on the right: as strong, in proportion."""
    x = torch.full((1, 3, 128, 192), 0.5)
    texture = torch.randn(1, 1, 128, 64, generator=torch.Generator().manual_seed(2))
    x[..., 64:128] += 0.02 * texture
    x[..., 128:] += 0.04 * texture
    grain = add_grain(x, 1.0, seeds=[1]) - x
    sky, weak, strong = (float(grain[..., 12 + start : start + 52].std()) for start in (0, 64, 128))
    assert sky < 1e-6
    assert strong == pytest.approx(2 * weak, rel=0.1)


def energy(x: Tensor) -> float:
    return float(high_pass(x.mean(dim=1, keepdim=True)).square().mean())


def test_amount_one_is_as_much_again() -> None:
    """In units of the local standard deviation of what the sample itself has there."""
    x = textured(192, 192)
    grain = add_grain(x, 1.0, seeds=[5]) - x
    assert float(grain.square().mean()) == pytest.approx(energy(x), rel=0.03)


@pytest.mark.parametrize("amount", [0.25, 0.5, 1.5])
def test_energies_add(amount: float) -> None:
    """E(a) = E(0) + a^2 (E(1) - E(0)), which :func:`amount_for` inverts: grain is independent of the sample."""
    x = textured(192, 192, seed=3)
    without, with_one, got = (energy(add_grain(x, a, seeds=[6])) for a in (0.0, 1.0, amount))
    assert got == pytest.approx(without + amount**2 * (with_one - without), rel=0.02)


def test_the_amount_asked_for_brings_the_energy_back() -> None:
    """Pictures whose texture lost 30 % of its amplitude."""
    originals = [textured(192, 192, seed=seed) for seed in range(3)]
    samples = [0.5 + 0.7 * (x - 0.5) for x in originals]

    def ratios(amount: float) -> list[float]:
        pairs = zip(samples, originals, strict=True)
        return [energy(add_grain(one, amount, seeds=[seed])) / energy(x) for seed, (one, x) in enumerate(pairs)]

    amount = amount_for(ratios(0.0), ratios(1.0))
    assert amount == pytest.approx(math.sqrt(0.51 / 0.49), rel=0.1)  # less what the filter takes of its own noise
    assert sum(ratios(amount)) / 3 == pytest.approx(1.0, abs=0.02)


def test_samples_stay_in_range() -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    grainy = add_grain(x, 3.0, seeds=[1])
    assert float(grainy.min()) == 0.0 and float(grainy.max()) == 1.0


@pytest.mark.parametrize(
    ("without", "with_one", "amount"),
    [
        ([0.5], [1.0], 1.0),
        ([0.5], [2.5], 0.5),
        ([0.4, 0.6], [1.5, 1.5], math.sqrt(0.5)),  # of the means: some pictures have too little, some too much
        ([0.9, 1.1], [2.0, 2.0], 0.0),
        ([1.2], [2.0], 0.0),
        ([0.5], [0.5], 0.0),
        ([0.5], [0.4], 0.0),
        ([], [], 0.0),
        ([0.5, INF], [1.0, INF], 1.0),
        ([0.5, 1.0], [1.0, INF], 1.0),
        ([0.5, NAN], [1.0, 3.0], 1.0),
        ([INF], [INF], 0.0),
    ],
)
def test_amount_by_hand(without: list[float], with_one: list[float], amount: float) -> None:
    assert amount_for(without, with_one) == pytest.approx(amount)


def test_energies_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        amount_for([0.5, 0.6], [1.0])
