"""What every step is handed: the configuration, the workspace, an engine, and how to tell of progress."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from hfd.config import Config
from hfd.io.storage import Folder
from pipelines.engine.base import Engine
from pipelines.runs.step import Done, Outcome, Step, run_step
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
    """A run of the pipeline. ``guard`` raises where another run has taken the workspace over."""

    config: Config
    workspace: Folder
    engine: Engine
    display: Display = field(default_factory=Silent)
    parent: ParentRun | None = None
    guard: Callable[[], None] = lambda: None

    def do(self, step: Step, work: Callable[[Folder, StepRun], Outcome]) -> Done:
        """Do a step unless it is done, recorded as a child run: its settings, its inputs, and what came out.

        ``work`` is given the step's folder, and the run to log to (one that does nothing where none is kept).
        """
        parent = self.parent or ParentRun(None, "")

        def recorded(folder: Folder) -> Outcome:
            params = {"settings": dict(step.settings), "inputs": dict(step.inputs)}
            with parent.child(step.name, params=params, tags={"hfd.key": step.key}) as run:
                outcome = work(folder, run)
                numbers = {name: float(value) for name, value in outcome.facts.items() if _is_number(value)}
                run.log_metrics(0, {f"facts/{name}": value for name, value in numbers.items()})
                run.log_artifact(json.dumps(dict(outcome.facts), indent=2).encode(), name="facts.json")
                return outcome

        return run_step(step, recorded, self.guard)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
