"""Refine the latent of one picture before it is coded: better quality and fewer bits, for minutes of an encoder's time.

An encoder network computes the latent in one pass, and for a single picture there are better ones. Here gradient
descent minimises the loss of stage 1, lmbda 255^2 MSE + bpp_est, over the latent of one picture. The file format, the
decoder and its time stay as they are. Rounding has no gradient; stochastic Gumbel annealing (Yang et al., arXiv
2006.04240) replaces it by a random choice between the two nearest values, which settles as its temperature falls.
Beyond the paper of HFD.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hfd.autoencoder.coding import Latents
from hfd.autoencoder.model import Elic, gaussian_bits
from hfd.engine.base import CELL_PX, HYPER_CELLS, Values
from hfd.geometry.box import Box, Tile
from hfd.geometry.tiles import grown
from hfd.precision import autocast

LEARNING_RATE = 0.007
"""Adam's, in quantiser steps."""
STEADY_SHARE = 0.6
"""Share of the steps before the learning rate falls, as a cosine."""
TEMPERATURE = 0.5
HOT_SHARE, COOLING = 0.15, 3.5
"""Share of the steps at the first temperature; logarithm of the factor by which it falls if it falls from the start."""
TILE_CELLS = 48
"""Longest side of a tile, in positions of y. Larger pictures are refined tile by tile."""
MARGIN_CELLS = 8
"""Positions around a tile whose pixels and bits count too, and which stay as they are."""

_NEAR = 1e-4
"""Distance from a whole number below which the logits of rounding are cut off."""

Pixels = Callable[[Box], Values]
"""Part of the picture, float32 (1, 3, h, w) in [0, 1]."""


@dataclass(frozen=True)
class Objective:
    """``lmbda``: weight of the squared error at a quantiser step of one; ``step``: that of the file."""

    lmbda: float
    step: float = 1.0

    @property
    def weight(self) -> float:
        """Weight of the MSE of pictures in [0, 1] beside bits per pixel; as in training, it falls with step^2."""
        return self.lmbda / self.step**2 * 255**2


def refined(
    model: Elic,
    latents: Latents,
    pixels: Pixels,
    size: tuple[int, int],
    objective: Objective,
    *,
    steps: int,
    on_step: Callable[[int, int], None] | None = None,
    precision: str = "auto",
) -> Latents:
    """Return latents with a lower loss, or the same ones: a tile is kept as it was unless its loss falls.

    ``model``: frozen, in eval mode; ``latents``: its own, of a padded picture; ``pixels``: the picture, ``size``
    (height, width) without padding, whose pixels alone count; ``steps``: of gradient descent, for each tile; z stays.
    ``on_step`` gets the numbers of finished steps and of those of all tiles. The result depends on the machine by
    rounding, as that of g_a does. Memory depends on the tile.
    """
    y, height, width = np.array(latents.y, np.float32), *latents.y.shape[2:]
    tiles = list(_tiles(height, width))
    for number, tile in enumerate(tiles):
        x = torch.from_numpy(pixels(_scaled(tile.window, CELL_PX, 1).clipped(*size)))
        refinement = TileRefinement(model, objective, precision, x, *_latents_of(tile, y, latents.z))
        for step in refinement.descend(steps):
            if on_step is not None:
                on_step(number * steps + step + 1, len(tiles) * steps)
        if (y_hat := refinement.better()) is not None:
            tile.core.cut(y)[...] = tile.core.within(tile.window).cut(y_hat.numpy())
    return replace(latents, y=y)


def _tiles(height: int, width: int) -> Iterator[Tile]:
    """Tiles of at most `TILE_CELLS` a side, and of about equal sides, with their margins."""
    for top, bottom in pairwise(_cuts(height)):
        for left, right in pairwise(_cuts(width)):
            core = Box(top, left, bottom - top, right - left)
            yield Tile(core, grown(core, MARGIN_CELLS, HYPER_CELLS).clipped(height, width))


def _cuts(length: int) -> list[int]:
    """Where tiles begin along an axis, multiples of `HYPER_CELLS`, and its end."""
    count, cells = -(-length // TILE_CELLS), length // HYPER_CELLS
    return [HYPER_CELLS * (cells * i // count) for i in range(count)] + [length]


def _scaled(box: Box, factor: int, divisor: int) -> Box:
    return Box(*(side * factor // divisor for side in (box.top, box.left, *box.shape)))


class TileRefinement:
    """One tile: its window's y (1, M, h, w), z_hat and picture (1, 3, H, W); ``free`` (h, w): positions to refine."""

    def __init__(
        self, model: Elic, objective: Objective, precision: str, x: Tensor, y: Tensor, z: Tensor, free: Tensor
    ) -> None:
        self._model, self._objective, self._precision = model, objective, precision
        self._x, self.free = x, free
        self._before, self.y = y, y.clone().requires_grad_(True)
        self._z_hat = torch.round(z - model.medians()) + model.medians()

    def descend(self, steps: int) -> Iterator[int]:
        """Refine y; yield the number of each step, from 0, once it is done."""
        step = self._objective.step
        optimiser = torch.optim.Adam([self.y], lr=LEARNING_RATE * step)
        generator = torch.Generator().manual_seed(0)
        for number in range(steps):
            done = number / steps
            temperature = TEMPERATURE * math.exp(-COOLING * max(0.0, done - HOT_SHARE))
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * step * _lr_factor(done)
            loss, _ = self._loss(self.y, partial(_annealed, temperature=temperature, generator=generator))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            yield number

    def better(self) -> Tensor | None:
        """y_hat as the file has it, (1, M, h, w); None: its loss is not below that of the latent before."""
        with torch.no_grad():
            before, _ = self._loss(self._before, torch.round)
            after, y_hat = self._loss(self.y, torch.round)
        return y_hat if float(after) < float(before) else None

    def _loss(self, y: Tensor, choose: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """lmbda 255^2 MSE + bpp_est of y and y_hat, without the bits of z. ``choose``: rounds the free positions."""
        model, objective = self._model, self._objective
        bits: list[Tensor] = []

        def code(k: int, at: Tensor, scales_hat: Tensor, means_hat: Tensor) -> Tensor:
            residual = (model.group(y, k).flatten(2)[..., at] - means_hat) / objective.step
            symbols = torch.where(self.free.flatten()[at], choose(residual), torch.round(residual.detach()))
            bits.append(gaussian_bits(symbols, scales_hat / objective.step))
            return symbols * objective.step + means_hat

        height, width = self._x.shape[2:]
        with autocast(self._x.device, self._precision):
            y_hat = model.traverse_latent(self._z_hat, code)
            x_hat = model.g_s(y_hat).float()[..., :height, :width]
        mse = (x_hat - self._x).square().mean()
        return objective.weight * mse + torch.stack(bits).sum() / (height * width), y_hat


def _latents_of(tile: Tile, y: Values, z: Values) -> tuple[Tensor, Tensor, Tensor]:
    """y, z and the positions to refine, of a tile's window."""
    window, core = tile.window, tile.core.within(tile.window)
    of_z = _scaled(window, 1, HYPER_CELLS)
    free = torch.zeros(window.shape, dtype=torch.bool)
    core.cut(free).fill_(True)
    return torch.from_numpy(window.cut(y).copy()), torch.from_numpy(of_z.cut(z).copy()), free


def _annealed(residual: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A random value between the whole numbers around each residual, nearly one of them at a low temperature.

    Of the two, each is drawn with a logit of -atanh(distance) / temperature, and their mixture is relaxed with the same
    temperature.
    """
    low = residual.detach().floor()
    share = (residual - low).clamp(_NEAR, 1.0 - _NEAR)
    uniform = torch.rand(share.shape, generator=generator).clamp(1e-6, 1.0 - 1e-6)
    logit = (torch.atanh(share) - torch.atanh(1.0 - share)) / temperature + torch.logit(uniform)
    return low + torch.sigmoid(logit / temperature)


def _lr_factor(done: float) -> float:
    """``done``: share of the steps."""
    if done < STEADY_SHARE:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (done - STEADY_SHARE) / (1.0 - STEADY_SHARE)))
