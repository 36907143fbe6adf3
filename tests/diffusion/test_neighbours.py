"""Known pixels and the random masks of training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hfd.diffusion.neighbours import CHANNELS, known_pixels, mask_numbers, masks_of


def random_masks(batch: int, side_px: int, share: float, seed: int = 0) -> Tensor:
    return masks_of(mask_numbers(batch, torch.Generator().manual_seed(seed)), side_px, share)


def bands(mask: Tensor) -> list[int]:
    """Widths of the known bands at the top, left, bottom and right of a mask (side, side) that is not all known."""
    rows, columns = mask.all(dim=1).tolist(), mask.all(dim=0).tolist()

    def length(lines: list[bool]) -> int:
        return next((i for i, known in enumerate(lines) if not known), len(lines))

    return [length(lines) for lines in (rows, columns, rows[::-1], columns[::-1])]


def test_known_pixels_are_zero_where_unknown() -> None:
    x0 = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) + 0.5
    mask = random_masks(4, 16, 1.0, seed=2)
    known = known_pixels(x0, mask)
    assert known.shape == (4, CHANNELS, 16, 16)
    inside = mask.bool().expand(-1, 3, -1, -1)
    assert 0.2 < float(mask.mean()) < 0.8
    assert torch.equal(known[:, :3][inside], x0[inside])
    assert not bool(known[:, :3][~inside].any())
    assert torch.equal(known[:, 3:], mask)
    assert not bool(known_pixels(x0, torch.zeros_like(mask)).any())


@pytest.mark.parametrize("side_px", [8, 9, 24])
def test_masks_are_bands_along_the_sides(side_px: int) -> None:
    """Each is the union of what it shows along its four sides, none of them wider than half of it."""
    masks = random_masks(300, side_px, 1.0)
    assert masks.shape == (300, 1, side_px, side_px) and masks.dtype == torch.float32
    seen = set()
    for mask in masks[:, 0]:
        if bool(mask.all()):
            continue
        top, left, bottom, right = bands(mask)
        rebuilt = torch.zeros_like(mask)
        rebuilt[:top], rebuilt[side_px - bottom :] = 1.0, 1.0
        rebuilt[:, :left], rebuilt[:, side_px - right :] = 1.0, 1.0
        assert torch.equal(mask, rebuilt)
        assert max(top, left, bottom, right) <= side_px // 2
        seen.add((top > 0, left > 0, bottom > 0, right > 0))
    assert len(seen) == 16


def test_sides_and_widths_have_the_stated_odds() -> None:
    """Each side in half of the samples, apart from the others; widths uniform on 1 to half the crop."""
    side_px, count = 32, 6000
    found = torch.tensor([bands(mask) for mask in random_masks(count, side_px, 1.0, seed=3)[:, 0] if not mask.all()])
    present = (found > 0).double()
    error = 0.5 / math.sqrt(count)
    # A wholly known crop, two opposite bands of half of it each, is as rare as 2 / 4 / 16^2.
    assert len(found) > 0.99 * count
    assert bool(((present.mean(0) - 0.5).abs() < 5 * error).all())
    correlations = torch.corrcoef(present.T) - torch.eye(4).double()
    assert float(correlations.abs().max()) < 5 / math.sqrt(count)
    widths = found[found > 0]
    shares = torch.bincount(widths, minlength=17)[1:].double() / len(widths)
    assert len(shares) == side_px // 2
    assert float((shares - 1 / 16).abs().max()) < 5 * math.sqrt(1 / 16 / len(widths))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_samples_with_bands(share: float) -> None:
    """Of which one in 16 draws no side at all."""
    count = 4000
    some = random_masks(count, 4, share, seed=4).flatten(1).any(dim=1).double().mean()
    expected = share * 15 / 16
    assert float(some) == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / count))


def test_masks_of_a_sample_do_not_depend_on_the_others() -> None:
    some, every = random_masks(200, 12, 0.5, seed=6), random_masks(200, 12, 1.0, seed=6)
    drawn = some.flatten(1).any(dim=1)
    assert 50 < int(drawn.sum()) < 150
    assert torch.equal(some[drawn], every[drawn])
    assert torch.equal(random_masks(200, 12, 0.5, seed=6), some)
    assert not torch.equal(random_masks(200, 12, 0.5, seed=7), some)
