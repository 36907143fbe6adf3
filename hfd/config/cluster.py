"""Settings of the machines that run the steps."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from hfd.config.base import Section, duration_s
from hfd.kinds import Strategy


class ClusterConfig(Section):
    """Machines that run the steps. They change the speed, not the results."""

    kind: Literal["inline", "local", "attach"] = Field(
        "inline",
        description="inline: in this process; local: on a Ray started for the run; attach: on a running Ray.",
    )
    address: str | None = Field(None, description="Address of the running Ray, such as auto or ray://head:10001.")
    num_cpus: int | None = Field(None, ge=1, description="Logical CPUs of a local Ray; None: all of the machine.")
    wait: str | None = Field(
        None,
        description="Longest wait for nodes that an autoscaler adds, with kind=attach, such as '90 s', '30 min', "
        "'2 h'; None: refuse at once what does not fit the present nodes.",
    )
    map_workers: int | None = Field(
        None, ge=1, description="Concurrent tasks in prepare, reconstruct, evaluate; None: as many as fit."
    )
    map_threads: int = Field(1, ge=1, description="Torch threads (and logical CPUs) of each such task.")
    map_cpus: float | None = Field(
        None, gt=0.0, description="Logical CPUs of each such task, if not map_threads: below 1 for work on a GPU."
    )
    map_gpus: float = Field(0.0, ge=0.0, description="GPUs of each reconstruct and evaluate task.")
    train_workers: int = Field(1, ge=1, description="Data-parallel training workers.")
    train_workers_min: int | None = Field(
        None, ge=1, description="Fewest workers to continue with while nodes are missing; None: train_workers."
    )
    train_restarts: int = Field(3, ge=0, description="Number of times that a training resumes after losing a worker.")
    strategy: Strategy = Field(
        "ddp", description="ddp: each worker holds the whole network; fsdp: a shard of it, for large networks."
    )
    train_threads: int = Field(2, ge=1, description="Torch threads (and logical CPUs) of each training worker.")
    train_gpus: float = Field(0.0, ge=0.0, description="GPUs of each training worker.")

    @field_validator("wait", mode="before")
    @classmethod
    def _wait_is_readable(cls, value: object) -> object:
        if value is not None:
            duration_s(value)
        return value

    @model_validator(mode="after")
    def _inline_is_one_worker(self) -> Self:
        if self.kind == "inline" and self.train_workers > 1:
            raise ValueError(f"train_workers: got {self.train_workers}, expected 1 with kind=inline. Use kind=local.")
        if self.train_workers_min is not None and self.train_workers_min > self.train_workers:
            raise ValueError(
                f"train_workers_min: got {self.train_workers_min}, expected at most train_workers, which is "
                f"{self.train_workers}."
            )
        if self.kind == "attach" and self.address is None:
            raise ValueError("address: missing, expected the address of a running Ray with kind=attach")
        if self.kind != "attach" and self.wait is not None:
            raise ValueError(
                f"wait: got {self.wait!r}, expected null with kind={self.kind}, to which no nodes are added"
            )
        return self

    @property
    def is_elastic(self) -> bool:
        """True if a training continues with fewer workers while nodes are missing."""
        return self.train_workers_min is not None and self.train_workers_min < self.train_workers

    @property
    def wait_s(self) -> float | None:
        """Longest wait for nodes in seconds; None: no wait."""
        return None if self.wait is None else duration_s(self.wait)

    @property
    def cpus_of_map(self) -> float:
        """Logical CPUs that Ray reserves for a map task."""
        return float(self.map_threads) if self.map_cpus is None else self.map_cpus
