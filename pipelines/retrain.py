"""Run the workflow: every step that is not done, or one of them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hfd.config import Config
from hfd.errors import ConfigError
from hfd.io.storage import Folder
from pipelines import evaluate, prepare
from pipelines.context import Context, Display, Inputs, Silent
from pipelines.corpus.listing import Corpus, list_corpus
from pipelines.corpus.sources import list_sources
from pipelines.engine.inline import Inline
from pipelines.engine.open import open_engine
from pipelines.runs.lease import lease
from pipelines.runs.step import Done, Step, describe_other_format, is_latest, naming_incomplete, point_latest, require
from pipelines.spec import MODEL
from pipelines.tracking import ParentRun, parent_run
from pipelines.tracking.settings import tracking_settings
from pipelines.workflow import STEPS, model_step, steps_of


@dataclass(frozen=True)
class StepState:
    """A step of a dry run. ``step`` is None while it depends on one that has not run."""

    name: str
    step: Step | None
    finished: Done | None

    @property
    def done(self) -> bool:
        return self.finished is not None


def list_inputs(config: Config, display: Display | None = None) -> Inputs:
    """List the photographs and the pictures to evaluate on; minutes for millions of objects."""
    shown, pictures, photographs = display or Silent(), config.evaluate.data, None
    if model_step(config) is not None:
        with shown.bar("list photographs", "files") as progress:
            photographs = list_sources(config.data, on_progress=progress)
        _say_skipped(shown, "data.uri", photographs)
        if pictures is None:
            return Inputs(photographs)
    assert pictures is not None  # without a model, the configuration has them
    with shown.bar("list pictures", "files") as progress:
        listed = list_corpus(pictures, setting="evaluate.data", packed=False, on_progress=progress)
    inputs = Inputs(listed if photographs is None else photographs, listed)
    _say_skipped(shown, "evaluate.data", inputs.pictures)
    return inputs


def _say_skipped(display: Display, setting: str, corpus: Corpus | None) -> None:
    """Say what of a folder or prefix is no picture, by kind."""
    if corpus is not None and corpus.skipped:
        display.say(f"{setting}: {corpus.skipped}")


def retrain(config: Config, display: Display, *, only: str | None = None) -> list[Done]:
    """Run every step that is not done; with ``only``, that step alone, and the steps before it must be done.

    One run at a time works on a workspace. Raises :class:`hfd.errors.HfdError` with one line for a mistake of the user
    and for outside failures.
    """
    if only is not None and only not in (spec.name for spec in steps_of(config)):
        if config.evaluate.model == "none":
            raise ConfigError(f"evaluate.model: got none, expected trained for hfd {only}. Remove it")
        setting = next(spec.setting for spec in STEPS if spec.name == only)
        raise ConfigError(f"{setting}: missing, expected a value, which hfd {only} needs. Set it")
    idle = replace(_idle_context(config), display=display)
    for line in notes_on(config):
        display.say(line)
    idle = replace(idle, inputs=list_inputs(config, display))
    states = _states(idle, only)
    if only is not None:
        for before in itertools.takewhile(lambda state: state.name != only, states):
            assert before.step is not None  # every step before it is done
            require(before.step, before.name)
    finished = [state.finished for state in states if only in (None, state.name) and state.finished is not None]
    if len(finished) == (len(states) if only is None else 1):
        latest = _latest_of(config, finished)
        if is_latest(idle.workspace, latest):
            return _report_cached(idle, finished, latest)
        # What latest.json does not name yet may be deleted at this moment (hfd clean), until the lease is ours.
        with lease(idle.workspace, config.lease):
            again = _states(idle, only)
            if all(state.done for state in again if only in (None, state.name)):
                return _report_cached(idle, finished, latest)
    with (
        lease(idle.workspace, config.lease) as held,
        _tracked(config, only) as parent,
        open_engine(config.cluster, display.say) as ready,
    ):
        context = replace(idle, engine=ready, parent=parent)
        with naming_incomplete(context.workspace):
            return _run_steps(replace(context, guard=held.check) if held is not None else context, only)


def plan(config: Config, inputs: Inputs) -> list[StepState]:
    """Plan every step whose inputs are known, without writing: a step after one that will run has no key yet."""
    return _states(replace(_idle_context(config), inputs=inputs))


def notes_on(config: Config) -> list[str]:
    """List what a user should know of the workspace before a run, one line each."""
    note = describe_other_format(_idle_context(config).workspace)
    return [] if note is None else [note]


def _states(context: Context, last: str | None = None) -> list[StepState]:
    """Plan every step, or those up to ``last``."""
    states: list[StepState] = []
    done: dict[str, Done] = {}
    for spec in steps_of(context.config):
        planned = spec.plan(context, done)
        step = planned.step if planned is not None else None
        manifest = step.manifest() if step is not None else None
        if step is not None and manifest is not None:
            _add(context, done, spec.name, Done(step, manifest, skipped=True))
        states.append(StepState(spec.name, step, done.get(spec.name)))
        if spec.name == last:
            break
    return states


def _add(context: Context, done: dict[str, Done], name: str, one: Done) -> None:
    done[name] = one
    if name == model_step(context.config):
        done[MODEL] = one


def _latest_of(config: Config, finished: Sequence[Done]) -> dict[str, str]:
    """Return what latest.json should name after these steps."""
    folders = {done.step.name: f"{done.step.name}/{done.step.key}" for done in finished}
    latest = {"model": folders.get(model_step(config) or "")}
    if evaluate.SPEC.name in folders:
        latest["report"] = f"{folders[evaluate.SPEC.name]}/report.html"
    return {name: place for name, place in latest.items() if place is not None}


def _report_cached(context: Context, finished: Sequence[Done], latest: Mapping[str, str]) -> list[Done]:
    """Report that all steps are cached, without starting anything; update latest.json."""
    point_latest(context.workspace, **latest)
    assert context.inputs is not None
    steps = f"{finished[0].step.name} is" if len(finished) == 1 else f"all {len(finished)} steps are"
    context.display.say(
        f"nothing to do: {steps} done for these settings and {context.inputs.photographs} ({finished[-1].folder.uri})"
    )
    return list(finished)


def _run_steps(context: Context, only: str | None) -> list[Done]:
    """Run each step in turn; with ``only``, the steps before it are required and not run."""
    done: dict[str, Done] = {}
    for spec in steps_of(context.config):
        planned = spec.plan(context, done)
        assert planned is not None  # the steps before it are done, or were required
        if only not in (None, spec.name):
            _add(context, done, spec.name, require(planned.step, spec.name))
            continue
        one = planned.run()
        _add(context, done, spec.name, one)
        if only is None and spec is prepare.SPEC:
            from pipelines.evaluate.plan import images_of
            from pipelines.train.validation import require_measurable

            # Fail now rather than after hours of training.
            images_of(context, one)
            require_measurable(context.config.decoder.finish, one.folder)
        outcome = "done before" if one.skipped else f"{one.manifest.seconds:.1f} s"
        context.display.say(f"{spec.name:<18} {outcome:>12}   {one.folder.uri}")
        if only is not None:
            return [one]
    return [done[spec.name] for spec in steps_of(context.config)]


def _idle_context(config: Config) -> Context:
    workspace = Folder(config.workspace_uri)
    if workspace.is_local:
        workspace = Folder(str(workspace.path))
    return Context(config, workspace, Inline(config.cluster))


@contextlib.contextmanager
def _tracked(config: Config, only: str | None) -> Iterator[ParentRun]:
    settings = tracking_settings(config)
    tags = {"hfd.name": config.name, "hfd.command": only or "retrain"}
    with parent_run(settings, name=config.name, params=config.model_dump(mode="json"), tags=tags) as parent:
        yield parent
