"""Random numbers of training steps, a function of the seed and the sample, independent of the worker.

A sample's numbers come from a generator of its own, seeded with (seed, number of the sample in the training, stream);
those that a whole batch shares are seeded with (seed, step, stream). The numbers therefore do not depend on the number
of workers, the split of a batch into parts, or a resume. (Torch's CPU generator keeps 32 bits of a seed, so that in a
long training some samples share their noise, hours apart and on other pictures.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SampleRandomness:
    """Random numbers of one step for some samples of its batch.

    ``indices``: the samples' positions in the global batch of ``batch_size``, number ``step`` of the training.
    """

    seed: int
    step: int
    batch_size: int
    indices: Sequence[int]

    def shared(self, stream: str) -> torch.Generator:
        """A new CPU generator for the whole batch, the same for every worker and every part."""
        return torch.Generator().manual_seed(_hash(self.seed, self.step, stream))

    def of_samples(self, whole: Tensor) -> Tensor:
        """The rows of these samples in a tensor (batch_size, ...) of the whole batch."""
        return whole[list(self.indices)]

    def normal(self, shape: Sequence[int], stream: str, device: torch.device) -> Tensor:
        """Standard normal (b, *shape), float32."""
        numbers = self._empty(shape, device)
        for row, generator in zip(numbers, self._generators(stream), strict=True):
            row.normal_(generator=generator)
        return numbers.to(device, non_blocking=True)

    def rounding(self, shape: Sequence[int], stream: str, device: torch.device) -> Tensor:
        """Uniform on [-1/2, 1/2), (b, *shape), float32."""
        numbers = self._empty(shape, device)
        for row, generator in zip(numbers, self._generators(stream), strict=True):
            row.uniform_(-0.5, 0.5, generator=generator)
        return numbers.to(device, non_blocking=True)

    def part(self, start: int, stop: int) -> SampleRandomness:
        """The random numbers of some of these samples."""
        return SampleRandomness(self.seed, self.step, self.batch_size, self.indices[start:stop])

    def _empty(self, shape: Sequence[int], device: torch.device) -> Tensor:
        # On the host wherever the network is, so that a GPU gets the same noise for the same pictures.
        return torch.empty((len(self.indices), *shape), pin_memory=device.type == "cuda")

    def _generators(self, stream: str) -> list[torch.Generator]:
        first = self.step * self.batch_size
        return [torch.Generator().manual_seed(_hash(self.seed, first + index, stream)) for index in self.indices]


def worker_randomness(seed: int, step: int, batch_size: int, rank: int = 0, world: int = 1) -> SampleRandomness:
    """The random numbers of worker ``rank`` of ``world`` for its samples of :class:`hfd.data.loader.CropLoader`."""
    return SampleRandomness(seed, step, batch_size, range(rank, batch_size, world))


def _hash(seed: int, number: int, stream: str) -> int:
    digest = hashlib.sha256(f"{seed},{number},{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
