"""What chance decides in a training step: a function of the seed and of the sample, never of the worker that draws it.

A number drawn for a sample comes from a generator of its own, seeded with (seed, number of the sample in the training,
stream); what a whole batch shares comes from (seed, step, stream). So one worker and many, one batch and the
same batch in parts, a run and its resumption all draw the same. Seeding costs a microsecond; the numbers cost
what they cost in one piece. (Torch's CPU generator keeps 32 bits of a seed: over a long training some samples share
their noise, hours apart and on other pictures.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The draws of one step for the samples at hand.

    ``indices``: their places in the global batch of ``batch_size``, which is batch number ``step`` of the training.
    """

    seed: int
    step: int
    batch_size: int
    indices: Sequence[int]

    def shared(self, stream: str) -> torch.Generator:
        """A new generator of what the whole batch shares, on the CPU: the same for every worker and every part."""
        return torch.Generator().manual_seed(_hash(self.seed, self.step, stream))

    def of_samples(self, whole: Tensor) -> Tensor:
        """The rows of these samples, of something (batch_size, ...) that was drawn for the whole batch."""
        return whole[list(self.indices)]

    def normal(self, shape: Sequence[int], stream: str, device: torch.device) -> Tensor:
        """Standard normal (b, *shape), float32."""
        drawn = self._empty(shape, device)
        for row, generator in zip(drawn, self._generators(stream), strict=True):
            row.normal_(generator=generator)
        return drawn.to(device, non_blocking=True)

    def rounding(self, shape: Sequence[int], stream: str, device: torch.device) -> Tensor:
        """Uniform on [-1/2, 1/2), (b, *shape), float32."""
        drawn = self._empty(shape, device)
        for row, generator in zip(drawn, self._generators(stream), strict=True):
            row.uniform_(-0.5, 0.5, generator=generator)
        return drawn.to(device, non_blocking=True)

    def part(self, start: int, stop: int) -> Draws:
        """The draws of some of these samples."""
        return Draws(self.seed, self.step, self.batch_size, self.indices[start:stop])

    def _empty(self, shape: Sequence[int], device: torch.device) -> Tensor:
        # Drawn on the host wherever the network is: on a GPU the same noise falls on the same pictures.
        return torch.empty((len(self.indices), *shape), pin_memory=device.type == "cuda")

    def _generators(self, stream: str) -> list[torch.Generator]:
        first = self.step * self.batch_size
        return [torch.Generator().manual_seed(_hash(self.seed, first + index, stream)) for index in self.indices]


def draws_of_worker(seed: int, step: int, batch_size: int, rank: int = 0, world: int = 1) -> Draws:
    """The draws of worker ``rank`` of ``world``, whose samples are those of :class:`hfd.data.loader.CropLoader`."""
    return Draws(seed, step, batch_size, range(rank, batch_size, world))


def _hash(seed: int, number: int, stream: str) -> int:
    digest = hashlib.sha256(f"{seed},{number},{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
