"""Where work runs: in this process, or on Ray.

Both engines call the same functions on the same items with the same number of torch threads, so what comes
out does not depend on which was used.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hfd.config import ClusterConfig
from hfd.errors import ConfigError


@dataclass(frozen=True)
class Worker:
    """A training worker's place: ``device`` is ``cpu`` or ``cuda:0``; ``strategy`` as in ``cluster.strategy``.

    ``most``: of how many workers it is one when all are there; None: ``world``.
    """

    rank: int
    world: int
    device: str
    strategy: Literal["ddp", "fsdp"] = "ddp"
    most: int | None = None


class Engine(Protocol):
    """Runs maps and trainings."""

    def with_gpus(self) -> Engine:
        """The same engine, whose maps get the GPUs of ``cluster.map_gpus``."""

    def map(
        self,
        work: Callable[[Any], Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        """Call ``work`` on every item, in any order and maybe at once; ``on_done`` with each result, here.

        ``on_death`` is called, here, with an item on which worker processes keep dying; None: that ends the map.
        """

    def map_with_model(
        self,
        load: Callable[[], Any] | None,
        work: Callable[..., Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        """As ``map``, with ``work(model, item)`` in long-lived workers, each of which calls ``load`` once.

        ``load`` None: ``work(item)``, in such workers all the same.
        """

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        """Call ``work`` once for each training worker; it must take up where a killed one stopped."""


@contextlib.contextmanager
def engine(config: ClusterConfig) -> Iterator[Engine]:
    """The engine of a run, ready when the block starts. Raises :class:`ConfigError` when it is too small."""
    if config.kind == "inline":
        _check_gpus_here(config)
        yield Inline(config)
        return
    from pipelines.engine.on_ray import ray_engine

    with ray_engine(config) as ready:
        yield ready


@dataclass(frozen=True)
class Inline:
    """Everything in this process, one item after another."""

    config: ClusterConfig

    def with_gpus(self) -> Inline:
        return self

    def map(
        self,
        work: Callable[[Any], Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        self.map_with_model(None, work, items, on_done, on_death)

    def map_with_model(
        self,
        load: Callable[[], Any] | None,
        work: Callable[..., Any],
        items: Sequence[Any],
        on_done: Callable[[Any], None],
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        del on_death  # here, the process that dies is this one
        if not items:
            return
        with torch_threads(self.config.map_threads):
            model = () if load is None else (load(),)
            for item in items:
                on_done(work(*model, item))

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        del name
        with torch_threads(self.config.train_threads):
            work(Worker(rank=0, world=1, device="cuda:0" if self.config.train_gpus else "cpu"))


def map_device(config: ClusterConfig) -> str:
    """Where the networks of a map with ``with_gpus`` are: on a GPU only where ``map_gpus`` asks for one."""
    return "cuda" if config.map_gpus else "cpu"


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch limited to ``count`` threads inside the block, where this process uses torch at all."""
    if "torch" not in sys.modules:
        # Importing it would cost work that has no use for it, such as cutting photographs, seconds and memory.
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_gpus_here(config: ClusterConfig) -> None:
    for name, wanted in (("train_gpus", config.train_gpus), ("map_gpus", config.map_gpus)):
        if not wanted:
            continue
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(f"cluster.{name}: got {wanted:g}, expected 0. This machine has no CUDA device")
