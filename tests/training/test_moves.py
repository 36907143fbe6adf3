"""Moves between a sampler and its losses: all pictures alike, all moves, gradients at their pixels."""

from __future__ import annotations

import torch

from hfd.training.moves import CELL_PX, moved
from tests.support.tiny_training import randomness_at

SIDE = 2 * CELL_PX


def test_all_pictures_move_alike_and_keep_every_pixel() -> None:
    picture = torch.rand(2, 3, SIDE, SIDE)
    for step in range(8):
        first, second = moved((picture, 2.0 * picture), randomness_at(step))
        assert torch.equal(2.0 * first, second)
        assert torch.equal(first.flatten(2).sort().values, picture.flatten(2).sort().values)


def test_the_moves_reach_every_place_in_a_cell_and_every_direction() -> None:
    """A picture of three marked pixels shows where the first one went, and in which direction the other two lie."""
    picture = torch.zeros(1, 3, SIDE, SIDE)
    picture[0, 0, 0, 0] = picture[0, 1, 0, 1] = picture[0, 2, 1, 0] = 1.0
    places, directions = set(), set()
    for step in range(600):
        (found,) = moved((picture,), randomness_at(step))
        at = [torch.nonzero(found[0, channel])[0] for channel in range(3)]
        right, down = ([(int(d) + 1) % SIDE - 1 for d in (one - at[0])] for one in at[1:])
        directions.add((*right, *down))
        places.add((int(at[0][0]) % CELL_PX, int(at[0][1]) % CELL_PX))
    assert len(directions) == 8
    assert len(places) > 0.8 * CELL_PX**2  # of 600 draws from 256 places, 90 % are met on average


def test_a_gradient_returns_to_the_pixel_it_came_from() -> None:
    picture = torch.rand(1, 3, SIDE, SIDE, requires_grad=True)
    (found,) = moved((picture,), randomness_at(3))
    weights = torch.rand(1, 3, SIDE, SIDE)
    (found * moved((weights,), randomness_at(3))[0]).sum().backward()  # type: ignore[no-untyped-call]
    assert picture.grad is not None
    assert torch.equal(picture.grad, weights)
