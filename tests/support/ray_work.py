"""Work for Ray's processes, which import it by name: it raises, dies, or dies once."""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from hfd.errors import DataError
from hfd.image.load import RgbArray
from pipelines.engine.base import Worker


def refuse(item: int) -> int:
    raise DataError(f"item {item}: got nothing, expected something", reason="io")


def die(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def die_once(path: Path) -> int:
    """Return the process id; die instead if ``path`` does not exist yet."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def linger(_worker: Worker, started: Path) -> None:
    """Train for longer than any test runs; create ``started`` first."""
    started.touch()
    time.sleep(3600.0)


def stand_by(worker: Worker, started: Path, enough: Path) -> None:
    """Train until ``enough`` exists; first leave a file in ``started``, named by the group, its size and the rank."""
    from torch.distributed import broadcast_object_list

    group = [uuid.uuid4().hex]
    broadcast_object_list(group, src=0)
    (started / f"{group[0]} {worker.world} {worker.rank}").touch()
    while not enough.exists():
        time.sleep(0.1)


@dataclass(frozen=True)
class Killer:
    """A picture that kills every process that loads it."""

    key: str

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError(max_pixels)


def process_number() -> int:
    return os.getpid()


def tell(model: int, item: Path) -> tuple[int, int, str]:
    """Return the model, the process id and the item's name; the item "poison" kills the process."""
    if item.name == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return model, os.getpid(), item.name


def refuse_to_load() -> int:
    raise DataError("model: got nothing, expected something", reason="missing")


def die_while_loading() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def err(_model: int, item: int) -> int:
    raise ZeroDivisionError(f"a bug with item {item}")
