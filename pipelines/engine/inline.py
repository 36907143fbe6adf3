"""The engine that runs everything in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hfd.config import ClusterConfig
from pipelines.engine.base import MapJob, Worker
from pipelines.engine.devices import torch_threads


@dataclass(frozen=True)
class Inline:
    """Runs one item after another in this process. An item that kills its worker ends the run."""

    config: ClusterConfig

    def with_gpus(self) -> Inline:
        return self

    def map(self, job: MapJob) -> None:
        if not job.items:
            return
        with torch_threads(self.config.map_threads):
            model = () if job.load is None else (job.load(),)
            for item in job.items:
                job.on_done(job.work(*model, item))

    def train(self, work: Callable[[Worker], None], name: str) -> None:
        del name
        with torch_threads(self.config.train_threads):
            work(Worker(rank=0, world=1, device="cuda:0" if self.config.train_gpus else "cpu"))
