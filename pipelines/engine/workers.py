"""Workers that a step needs, and the number of them that fit the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hfd.config import ClusterConfig

Nodes = Sequence[Mapping[str, float]]
"""The resources of each living node, such as ``{"CPU": 8.0, "GPU": 1.0}``."""


@dataclass(frozen=True)
class Wanted:
    """``count`` workers of ``cpus`` and ``gpus`` each; ``setting`` is the key of ``cluster`` that states them."""

    setting: str
    count: int
    cpus: float
    gpus: float

    @property
    def text(self) -> str:
        return f"{self.count} x ({self.cpus:g} CPU and {self.gpus:g} GPU)"

    def fitting(self, nodes: Nodes) -> int:
        """Return the number of workers of this size that fit the nodes, which may be more than ``count``."""
        return count_fitting(nodes, self.cpus, self.gpus)


def training_workers(config: ClusterConfig) -> Wanted:
    """Return the fewest workers with which a training runs."""
    workers = config.train_workers_min or config.train_workers
    return Wanted("train_workers", workers, float(config.train_threads), config.train_gpus)


def map_worker(config: ClusterConfig, gpus: float) -> Wanted:
    """Return one worker of a map with ``gpus`` GPUs: a map runs with any number."""
    return Wanted("map_threads" if config.map_cpus is None else "map_cpus", 1, config.cpus_of_map, gpus)


def count_fitting(nodes: Nodes, cpus: float, gpus: float) -> int:
    """Return the number of workers of this size that fit the nodes."""

    def on(node: Mapping[str, float]) -> int:
        by_cpu = int(node.get("CPU", 0.0) / cpus)
        return min(by_cpu, int(node.get("GPU", 0.0) / gpus)) if gpus else by_cpu

    return sum(map(on, nodes))


def describe_nodes(nodes: Nodes) -> str:
    """Return the CPUs and GPUs of each node, on one line."""
    return ", ".join(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes) or "no nodes"
