"""One of several training processes, for the tests of data-parallel training."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import torch
import torch.distributed
from tiny_training import KINDS, Recording, run

STEPS = 5
CROP = torch.linspace(-1.0, 1.0, 3 * 32 * 32).reshape(1, 3, 32, 32)


def work(rank: int, world: int, folder: Path) -> None:
    """Train every task as one of ``world`` workers and leave losses and final state in the folder.

    Of the decoder, the first worker alone also takes the held-out loss of ``CROP``, while the other waits elsewhere.
    """
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
            left = {"losses": task.seen, "state": task.state()}
            if name == "decoder" and rank == 0:
                left["held_out"] = float(task.task.held_out_loss(CROP, -CROP, 3))
            torch.save(left, folder / f"{name}-{rank}.pt")
            torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
