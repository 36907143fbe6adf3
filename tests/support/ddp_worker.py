"""One of two training processes, for the tests of training on several workers: every scenario, one after another."""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from hfd.errors import DataError, HfdError
from hfd.training.loop import Listener
from hfd.training.randomness import SampleRandomness
from hfd.training.strategy import Parallelism
from tests.support.tiny_training import KINDS, KillAt, KilledError, MemoryLoader, Recording, run

STEPS = 20
CROP = torch.linspace(-1.0, 1.0, 3 * 32 * 32).reshape(1, 3, 32, 32)


@dataclass(frozen=True)
class Scenario:
    """A training of ``kind`` on two workers, to be compared with ``batch_size`` samples on one."""

    kind: str
    strategy: str = "ddp"
    steps: int = STEPS
    batch_size: int = 4
    accumulate: int = 1
    recompute: bool = False
    compile: bool = False


SCENARIOS = {
    **{f"{kind}-ddp": Scenario(kind) for kind in KINDS},
    **{f"{kind}-fsdp": Scenario(kind, "fsdp") for kind in ("autoencoder", "decoder")},
    # Three samples for one worker and two for the other, in two passes each.
    **{f"{kind}-uneven": Scenario(kind, steps=6, batch_size=5, accumulate=2) for kind in KINDS},
    "autoencoder-fsdp-uneven": Scenario("autoencoder", "fsdp", steps=6, batch_size=5, accumulate=2, recompute=True),
    "decoder-fsdp-uneven": Scenario("decoder", "fsdp", steps=6, batch_size=5, accumulate=2, recompute=True),
}

ELASTIC = {
    **{f"{kind}-elastic": Scenario(kind, steps=12) for kind in KINDS},
    "autoencoder-fsdp-elastic": Scenario("autoencoder", "fsdp", steps=12),
    "decoder-fsdp-elastic": Scenario("decoder", "fsdp", steps=12),
}
"""On two workers, killed; on one, killed; on two to the end."""


class Poisoned(Recording):
    """A training whose loss is not finite from its sixth step on, on one worker."""

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        losses = super().losses(batch, progress=progress, randomness=randomness)
        return {"loss": losses["loss"] * (torch.nan if len(self.seen) == 6 else 1.0)}


class Missing(MemoryLoader):
    """A loader whose server goes away before its fourth batch."""

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        for index, batch in enumerate(super().batches(start)):
            if index == 3:
                raise DataError("shard: no connection", reason="connection")
            yield batch


class Workers:
    """The work of one process: ``left`` holds results for the tests."""

    def __init__(self, rank: int, folder: Path) -> None:
        self.rank, self.folder = rank, folder
        self.left: dict[str, Any] = {}

    def train(self, name: str, one: Scenario, world: int = 2, kill_at: int = -1) -> Recording:
        kind = KINDS[one.kind]
        task = Recording(kind.make(parallelism=Parallelism(world, one.strategy, one.compile, one.recompute)))
        loader = kind.loader(batch_size=one.batch_size, rank=self.rank, world=world)
        run(
            task, loader, self.folder / name, Listener(on_step=KillAt(kill_at)), steps=one.steps,
            batch_size=one.batch_size, accumulate=one.accumulate, rank=self.rank, world=world,
            checkpoint_every_s=0.0 if kill_at > 0 else 1e9,
        )  # fmt: skip
        return task

    def through(self, name: str, one: Scenario) -> None:
        task = self.train(name, one)
        self.left[name] = {"losses": task.seen, "state": task.state()}
        if name == "decoder-ddp" and self.rank == 0:
            # The first worker alone, while the other waits elsewhere.
            self.left[name]["held_out"] = float(task.task.held_out_loss(CROP, -CROP, 3))

    def elastic(self, name: str, one: Scenario) -> None:
        for world, kill_at in ((2, 5), (1, 9), (2, -1)):
            if self.rank < world:
                with contextlib.suppress(KilledError):
                    self.left[name] = {"state": self.train(name, one, world, kill_at).state()}
            torch.distributed.barrier()

    def refused(self) -> None:
        """Train with a fault of only one worker, and record the error of this one."""
        kind = KINDS["decoder"]
        for name in ("nan", "missing"):
            poisoned = self.rank == 1
            task = (Poisoned if poisoned and name == "nan" else Recording)(kind.make(parallelism=Parallelism(2)))
            settings = {"crop_px": 32, "rank": self.rank, "world": 2}
            loader = (Missing if poisoned and name == "missing" else MemoryLoader)(**settings)
            try:
                run(task, loader, self.folder / name, rank=self.rank, world=2, log_every_steps=4)
            except HfdError as error:
                self.left[name] = (type(error).__name__, str(error), len(task.seen))


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(minutes=5),
    )
    try:
        workers = Workers(rank, folder)
        for name, one in SCENARIOS.items():
            workers.through(name, one)
            torch.distributed.barrier()
        for name, one in ELASTIC.items():
            workers.elastic(name, one)
        workers.refused()
        torch.save(workers.left, folder / f"left-{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def launch(folder: Path) -> list[dict[str, Any]]:
    """Run two of these processes; return the results of each.

    Once in some thirty runs, a process of torch 2.14.1 was ended by the C library (``free(): invalid size``) while both
    gathered parameters by gloo; it could not be made to happen again. A run in which a signal ended a process is
    repeated once, with a warning that says where it was.
    """
    folder.mkdir(exist_ok=True)
    last = folder / "first"
    codes, errors = _run(last)
    if min(codes) < 0:
        warnings.warn(f"a signal ended a training process {codes}; once more:\n{errors}", stacklevel=2)
        last = folder / "second"
        codes, errors = _run(last)
    assert codes == [0, 0], errors
    return [torch.load(last / f"left-{rank}.pt") for rank in range(2)]


def _run(folder: Path) -> tuple[list[int], str]:
    """Exit codes of both processes, and the ends of their errors."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    # After a crash in native code, the fault handler says where it was.
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.support.ddp_worker"]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate()[1] for process in processes]
    return [process.returncode for process in processes], "\n".join(error[-3000:] for error in errors)


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
