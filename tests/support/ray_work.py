"""Work for Ray's processes, which import it by name: it refuses, dies, or dies once."""

from __future__ import annotations

import os
import signal
import time
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
    """The number of the process that survived; ``path`` tells that one died before."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def linger(_worker: Worker, started: Path) -> None:
    """Train for longer than any test waits; ``started`` tells that it has begun."""
    started.touch()
    time.sleep(3600.0)


@dataclass(frozen=True)
class Killer:
    """A picture that no process survives."""

    key: str

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError(max_pixels)


def process_number() -> int:
    return os.getpid()


def tell(model: int, item: Path) -> tuple[int, int, str]:
    """The number that the model was made with, that of the process, and the item; "poison" kills."""
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
