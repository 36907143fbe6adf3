"""What every step is handed: the configuration, the workspace, an engine, and how to tell of progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from hfd.config import Config
from hfd.storage import Folder
from pipelines.cluster import Engine
from pipelines.tracking import ParentRun, StepRun

Progress = Callable[[int, int | None], None]
"""(done, total); total None while unknown."""


class Display(Protocol):
    """Shows progress on a terminal, or nothing."""

    def bar(self, label: str, unit: str) -> contextlib.AbstractContextManager[Progress]: ...

    def say(self, line: str) -> None: ...


class Silent:
    """Shows nothing."""

    @contextlib.contextmanager
    def bar(self, label: str, unit: str) -> Iterator[Progress]:
        del label, unit
        yield lambda _done, _total: None

    def say(self, line: str) -> None:
        del line


@dataclass(frozen=True)
class Context:
    """A run of the pipeline."""

    config: Config
    workspace: Folder
    engine: Engine
    display: Display = field(default_factory=Silent)
    parent: ParentRun | None = None

    @contextlib.contextmanager
    def record(self, step: str, settings: dict[str, object], inputs: dict[str, str]) -> Iterator[StepRun | None]:
        """A child run of MLflow for a step, or None where nothing is tracked."""
        if self.parent is None:
            yield None
            return
        with self.parent.child(step, params={"settings": settings, "inputs": inputs}) as run:
            yield run
