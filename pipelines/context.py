"""The context of a run (configuration, workspace, engine, display, tracking) and the steps planned in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from hfd.config import Config
from hfd.io.storage import Folder
from pipelines.corpus.listing import Corpus
from pipelines.engine.base import Engine
from pipelines.runs.step import Done, Outcome, Step, run_step
from pipelines.tracking import ParentRun, StepRun

Progress = Callable[[int, int | None], None]
"""(done, total); total None while unknown."""


FOLDER_TAG = "hfd.folder"
"""Tag of a step's tracking run: the folder of its output."""


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
class Inputs:
    """Data from outside: the photographs (without a model, the pictures), and the pictures to evaluate on (None: the
    held-out crops)."""

    photographs: Corpus
    pictures: Corpus | None = None


@dataclass(frozen=True)
class Context:
    """A run of the pipeline. ``guard`` raises if another run has taken over the workspace."""

    config: Config
    workspace: Folder
    engine: Engine
    display: Display = field(default_factory=Silent)
    parent: ParentRun | None = None
    guard: Callable[[], None] = lambda: None
    inputs: Inputs | None = None

    @property
    def pictures(self) -> Corpus | None:
        """The pictures to evaluate on; None: the held-out crops."""
        return self.inputs.pictures if self.inputs is not None else None

    def do(self, step: Step, work: Callable[[Folder, StepRun], Outcome]) -> Done:
        """Run a step unless it is done, recorded as a child run: settings, inputs and facts.

        ``work(folder, run)`` gets the step's folder and the tracking run (one that does nothing without tracking).
        """
        parent = self.parent or ParentRun(None, "")

        def recorded(folder: Folder) -> Outcome:
            params = {"settings": dict(step.settings), "inputs": dict(step.inputs)}
            tags = {"hfd.key": step.key, FOLDER_TAG: step.folder.uri}
            with parent.child(step.name, params=params, tags=tags) as run:
                outcome = work(folder, run)
                numbers = {name: float(value) for name, value in outcome.facts.items() if _is_number(value)}
                run.log_metrics(0, {f"facts/{name}": value for name, value in numbers.items()})
                run.log_artifact(json.dumps(dict(outcome.facts), indent=2).encode(), name="facts.json")
                return outcome

        return run_step(step, recorded, self.guard)


@dataclass(frozen=True)
class PlannedStep:
    """A step with its inputs resolved, and its work.

    ``work(folder, record)`` writes the output into the step's folder and logs to a tracking run; ``finish(done)``
    is called afterwards, also if the step was done before.
    """

    context: Context
    step: Step
    work: Callable[[Folder, StepRun], Outcome]
    finish: Callable[[Done], None] = lambda _done: None

    def run(self) -> Done:
        """Run the step unless it is done."""
        done = self.context.do(self.step, self.work)
        self.finish(done)
        return done


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
