"""One of several training processes, for the tests of data-parallel training."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import torch
import torch.distributed
from tiny_training import KINDS, Recording, run

STEPS = 5


def work(rank: int, world: int, folder: Path) -> None:
    """Train both tasks as one of ``world`` workers and leave losses and final state in the folder."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(minutes=5),
    )
    try:
        for name, kind in KINDS.items():
            task = Recording(kind.make(rank=rank, world=world))
            loader = kind.loader(rank=rank, world=world)
            run(task, loader, folder / name, steps=STEPS, rank=rank, world=world)
            torch.save({"losses": task.seen, "state": task.state()}, folder / f"{name}-{rank}.pt")
            torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
