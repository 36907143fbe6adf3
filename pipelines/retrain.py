"""The whole job, from photographs to a report and a champion; and each of its steps alone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hfd.config import Config
from hfd.errors import ConfigError
from hfd.io.storage import Folder
from pipelines.context import Context, Display, Silent
from pipelines.engine.inline import Inline
from pipelines.engine.open import open_engine
from pipelines.evaluate import step as evaluate
from pipelines.runs.lease import lease
from pipelines.runs.step import Done, Step, point_latest, require
from pipelines.tracking import ParentRun, parent_run, tracking_settings
from pipelines.workflow import Inputs, list_inputs, model_step, steps_of, workflow

__all__ = ["Inputs", "Planned", "list_inputs", "plan", "retrain", "steps_of", "tracking_settings"]

ASKED_FOR_BY = {"finetune-decoder": "decoder.adversarial", "promote": "promote.model"}
"""Steps that a configuration may be without, and the setting that asks for each."""


@dataclass(frozen=True)
class Planned:
    """A step of a dry run. ``step`` is None while it depends on one that has not run."""

    name: str
    step: Step | None
    finished: Done | None

    @property
    def done(self) -> bool:
        return self.finished is not None


def retrain(config: Config, display: Display, *, only: str | None = None) -> list[Done]:
    """Run every step that is not done; with ``only``, that one alone, its inputs being required.

    One run at a time works on a workspace. Raises :class:`hfd.errors.HfdError` with one line for whatever is the
    user's or the world's mistake.
    """
    if only is not None and only not in steps_of(config):
        raise ConfigError(f"{ASKED_FOR_BY[only]}: missing, expected what hfd {only} needs. Set it")
    inputs = list_inputs(config, display)
    idle = _context(config, display)
    planned = plan(config, inputs)
    if only is not None:
        _require_before(planned, only)
    finished = [step.finished for step in planned if only in (None, step.name) and step.finished is not None]
    if len(finished) == (len(planned) if only is None else 1):
        return _nothing_to_do(idle, inputs, finished)
    with (
        lease(idle.workspace, config.lease) as held,
        _tracked(config, only) as parent,
        open_engine(config.cluster) as ready,
    ):
        context = replace(idle, engine=ready, parent=parent)
        return _walk(replace(context, guard=held.check) if held is not None else context, inputs, only)


def plan(config: Config, inputs: Inputs) -> list[Planned]:
    """Which steps would run, as far as can be told: a step after one that will run has no key yet."""
    context = _context(config, Silent())
    planned: list[Planned] = []
    done: dict[str, Done] = {}
    for name, entry in workflow(config, inputs).items():
        step = entry.plan(context, done)
        manifest = step.manifest() if step is not None else None
        if step is not None and manifest is not None:
            done[name] = Done(step, manifest, skipped=True)
        planned.append(Planned(name, step, done.get(name)))
    return planned


def _require_before(planned: list[Planned], only: str) -> None:
    """Say what is missing before anything is started."""
    for before in itertools.takewhile(lambda step: step.name != only, planned):
        assert before.step is not None  # every step before it is done
        require(before.step, before.name)


def _nothing_to_do(context: Context, inputs: Inputs, finished: Sequence[Done]) -> list[Done]:
    """Say so, without starting anything; what is newest is what was asked for last."""
    folders = {done.step.name: f"{done.step.name}/{done.step.key}" for done in finished}
    names = {"model": folders.get(model_step(context.config)), "report": folders.get(evaluate.NAME)}
    if names["report"] is not None:
        names["report"] += "/report.html"
    point_latest(context.workspace, **{name: place for name, place in names.items() if place is not None})
    steps = finished[0].step.name if len(finished) == 1 else f"all {len(finished)} steps"
    verb = "is" if len(finished) == 1 else "are"
    context.display.say(
        f"nothing to do: {steps} {verb} done for these settings and {len(inputs.photographs.photos)} photographs "
        f"({finished[-1].folder.uri})"
    )
    return list(finished)


def _walk(context: Context, inputs: Inputs, only: str | None) -> list[Done]:
    """Each step in turn; with ``only``, the steps before it are required and not run."""
    done: dict[str, Done] = {}
    for name, entry in workflow(context.config, inputs).items():
        if only is not None and name != only:
            step = entry.plan(context, done)
            assert step is not None  # every step before it was required
            done[name] = require(step, name)
            continue
        done[name] = entry.run(context, done)
        if name == "prepare" and only is None:
            evaluate.images_of(context, done[name], inputs.evaluation)  # better now than after hours of training
        outcome = "done before" if done[name].skipped else f"{done[name].manifest.seconds:.1f} s"
        context.display.say(f"{name:<18} {outcome:>12}   {done[name].folder.uri}")
        if only is not None:
            return [done[name]]
    return list(done.values())


def _context(config: Config, display: Display) -> Context:
    workspace = Folder(config.workspace_uri)
    if workspace.is_local:
        workspace = Folder(str(workspace.path))
    return Context(config, workspace, Inline(config.cluster), display)


@contextlib.contextmanager
def _tracked(config: Config, only: str | None) -> Iterator[ParentRun]:
    settings = tracking_settings(config)
    tags = {"hfd.name": config.name, "hfd.command": only or "retrain"}
    with parent_run(settings, name=config.name, params=config.model_dump(mode="json"), tags=tags) as parent:
        yield parent
