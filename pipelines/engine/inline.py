"""The engine that runs everything in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hfd.config import ClusterConfig
from pipelines.engine.base import Worker
from pipelines.engine.devices import torch_threads


@dataclass(frozen=True)
class Inline:
    """Runs one item after another in this process. An item that kills its worker ends the run."""

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
        del on_death
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
