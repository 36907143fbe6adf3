"""The number of processes for a batch, by its pixels, the cores and the memory. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hfd.cli.convert import Job
from hfd.cli.processes import Limits
from hfd.engine.machine import available_bytes, cores
from hfd.errors import HfdError
from hfd.kinds import EngineKind

PIXELS_A_PROCESS = 1 << 20
"""Pixels of a batch for each process: its start takes about as long as a third of them."""

_SHARE = 0.8


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a process, measured: ``base``, and ``per_pixel`` of its picture, in all at most ``most``."""

    base: int
    per_pixel: int
    most: int

    def of(self, pixels: int) -> int:
        return min(self.base + self.per_pixel * pixels, self.most)


COMPRESS = Memory(base=300_000_000, per_pixel=220, most=1_400_000_000)
DECOMPRESS = Memory(base=300_000_000, per_pixel=380, most=1_900_000_000)
"""Measured with ONNX Runtime at 1 to 25 megapixels. Large pictures are read and decoded in parts, so they need little
more than those of 4 to 8 megapixels."""
REFINE = Memory(base=950_000_000, per_pixel=850, most=2_300_000_000)
"""To compress with refined latents, which takes torch beside any engine: 1.3 GB at 0.4 megapixels, and 2.1 GB from
tiles of 1 megapixel, margin included, on."""
TORCH_BASE = 650_000_000
"""More of a process that imports torch: at 1 megapixel, 1.1 GB to compress and 1.3 GB to decompress."""


def memory_with(engine: EngineKind, memory: Memory) -> Memory:
    """Return the memory of a process by its engine."""
    more = 0 if engine == "onnx" else TORCH_BASE
    return Memory(memory.base + more, memory.per_pixel, memory.most + more)


def limits_for(
    jobs: Sequence[Job], wanted: int | None, memory: Memory, pixels_of: Callable[[Path], int]
) -> Limits | None:
    """Return the limits of a batch's processes; None: all jobs run in this one.

    ``wanted``: processes that the user asked for, never exceeded; None: one per core, but no more than have
    `PIXELS_A_PROCESS` each. ``pixels_of``: from a picture's header; a file that it cannot read counts as none. Memory
    that is free now bounds the pictures that are processed at once.
    """

    @cache
    def pixels(job: Job) -> int:
        if job.problem is None and job.source is not None and job.source.is_file():
            with suppress(HfdError, OSError):
                return pixels_of(job.source)
        return 0

    processes = min(cores() if wanted is None else wanted, len(jobs))
    if wanted is None and processes > 1:
        enough = processes * PIXELS_A_PROCESS
        total = next((sum_ for sum_ in itertools.accumulate(map(pixels, jobs)) if sum_ >= enough), None)
        if total is None:
            processes = max(1, sum(map(pixels, jobs)) // PIXELS_A_PROCESS)
    if processes == 1:
        return None
    free = available_bytes()
    return Limits(processes, None if free is None else int(_SHARE * free), lambda job: memory.of(pixels(job)))
