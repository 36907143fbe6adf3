"""Sample stage 2 of one picture by its plan: create pieces for the workers and assemble their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hfd.codec.pixels import to_grey
from hfd.codec.reconstruction import LatentCut, cut_latent, synthesise
from hfd.diffusion.neighbours import known_pixels
from hfd.diffusion.sampling import Sampling
from hfd.engine.base import Stage1Networks, Values
from hfd.geometry.box import Box
from hfd.geometry.four_groups import Patch
from hfd.geometry.plan import Plan, Scheme
from hfd.image.load import RgbArray

Condition: TypeAlias = RgbArray | LatentCut
"""A window of x_hat, uint8 (h, w, 3), or the part of the latent that it is synthesised from."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Work for one call, in any process. The result is ``patch.finished``.

    ``size``: (height, width) of the whole picture; ``condition``: of ``patch.tile.window``; ``known``: uint8 (h, w, 3)
    of each of ``patch.known``.
    """

    patch: Patch
    size: tuple[int, int]
    condition: Condition
    known: tuple[RgbArray, ...]
    settings: Sampling
    seed: int
    precision: str


OnProgress: TypeAlias = Callable[[int, int], None]
"""(done, total): steps of a picture of one patch, patches of a larger one."""

SamplePiece: TypeAlias = Callable[[Piece], RgbArray]
"""Samples ``patch.finished`` of a piece, uint8 (H, W, 3): its core and, in four groups, its spills."""


class MapPieces(Protocol):
    """Apply a function to pieces; yield the results in order. Pieces are consumed lazily.

    The builtin ``map`` works in this process; a pool's ``imap`` on threads, processes or other machines.
    """

    def __call__(self, function: SamplePiece, pieces: Iterable[Piece], /) -> Iterable[RgbArray]: ...


class Source(Protocol):
    """Provides windows of x_hat."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture, px."""

    @property
    def is_grey(self) -> bool:
        """True if the picture's channels are equal."""

    def cut(self, box: Box) -> Condition: ...

    def read(self, box: Box) -> RgbArray:
        """Return x_hat in ``box``, uint8 (H, W, 3)."""


@dataclass(frozen=True, eq=False)
class PixelSource:
    """Windows of an x_hat that is held in memory as a whole, 3 bytes per pixel."""

    x_hat: RgbArray
    is_grey: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return self.x_hat.shape[0], self.x_hat.shape[1]

    def cut(self, box: Box) -> RgbArray:
        return self.read(box)

    def read(self, box: Box) -> RgbArray:
        return self.x_hat[box.slices]


class LatentSource:
    """Windows of an x_hat that the workers synthesise from the latent y_hat (1, M, h, w) float32."""

    def __init__(
        self, networks: Stage1Networks, y_hat: Values, size: tuple[int, int], *, is_grey: bool = False
    ) -> None:
        self.size, self.y_hat, self.is_grey = size, y_hat, is_grey
        self._networks = networks

    def cut(self, box: Box) -> LatentCut:
        return cut_latent(self.y_hat, box, self._networks.reach.synthesis_cells)

    def read(self, box: Box) -> RgbArray:
        x_hat = synthesise(self._networks, self.cut(box))
        return to_grey(x_hat) if self.is_grey else x_hat


def sample_by_plan(
    source: Source,
    plan: Plan,
    settings: Sampling,
    sample_piece: SamplePiece,
    *,
    seed: int,
    precision: str = "auto",
    map_fn: MapPieces = map,
    on_progress: OnProgress | None = None,
) -> RgbArray:
    """Sample ``plan.box``, uint8 (H, W, 3). ``on_progress``: called with the finished and all patches.

    The result depends on the plan, the settings and the seed, not on ``map_fn``. In four groups the network continues
    finished samples at full realism; the mixture with x_hat that ``settings.realism`` asks for is made afterwards.
    """
    covers, conditioned = plan.covers, plan.scheme is Scheme.FOUR_GROUPS
    canvas = np.empty((covers.height, covers.width, 3), np.uint8)
    at_work = replace(settings, realism=1.0) if conditioned else settings
    done = 0
    for group in plan.groups:
        pieces = (_piece(patch, source, canvas, covers, at_work, seed, precision) for patch in group)
        for patch, finished in zip(group, map_fn(sample_piece, pieces), strict=True):
            _write(canvas, covers, patch, finished)
            done += 1
            if on_progress is not None:
                on_progress(done, plan.num_patches)
    if at_work != settings:
        for patch in (patch for group in plan.groups for patch in group):
            box = patch.tile.core
            there = canvas[box.within(covers).slices]
            there[:] = _mixed(source.read(box), there, settings.realism)
    return canvas[plan.box.within(covers).slices]


def known_in(piece: Piece) -> Values | None:
    """Return the finished pixels in a piece's window as the network's input, (1, 4, h, w); None if there are none."""
    window = piece.patch.tile.window
    if not piece.known:
        return None
    pixels, mask = (np.zeros((1, count, window.height, window.width), np.float32) for count in (3, 1))
    for box, there in zip(piece.patch.known, piece.known, strict=True):
        box.within(window).cut(pixels)[...] = there.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1.0)
        box.within(window).cut(mask)[...] = 1.0
    known: Values = known_pixels(pixels, mask)
    return known


def _piece(
    patch: Patch, source: Source, canvas: RgbArray, covers: Box, settings: Sampling, seed: int, precision: str
) -> Piece:
    known = tuple(np.array(canvas[box.within(covers).slices]) for box in patch.known)
    return Piece(patch, source.size, source.cut(patch.tile.window), known, settings, seed, precision)


def _write(canvas: RgbArray, covers: Box, patch: Patch, finished: RgbArray) -> None:
    core = patch.tile.core
    there, new = canvas[core.within(covers).slices], finished[core.within(patch.finished).slices]
    if any(patch.fades):
        top, bottom, left, right = patch.fades
        share = _ramp(core.height, top, bottom)[:, None, None] * _ramp(core.width, left, right)[None, :, None]
        new = np.rint(there + share * (new.astype(np.float32) - there)).astype(np.uint8)
    there[:] = new
    for spill in patch.spills:
        box = spill.shared_with(covers)
        canvas[box.within(covers).slices] = finished[box.within(patch.finished).slices]


def _ramp(length: int, first: int, last: int) -> npt.NDArray[np.float32]:
    """Return weights in (0, 1] that rise over the ``first`` pixels and fall over the ``last``."""
    at = np.arange(length, dtype=np.float32) + np.float32(0.5)
    shares: npt.NDArray[np.float32] = np.ones(length, np.float32)
    for px, along in ((first, at), (last, at[::-1])):
        if px:
            shares *= np.minimum(along / np.float32(px), np.float32(1.0))
    return shares


def _mixed(x_hat: RgbArray, sample: RgbArray, realism: float) -> RgbArray:
    mixture = (1.0 - realism) * x_hat.astype(np.float32) + realism * sample.astype(np.float32)
    return np.rint(mixture).astype(np.uint8)
