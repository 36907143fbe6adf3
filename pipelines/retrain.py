"""The whole job, from photographs to a report; and each of its steps alone."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from hfd.config import Config
from hfd.errors import ConfigError
from hfd.storage import Folder
from pipelines import evaluate, finetune_decoder, prepare, reconstruct, train_autoencoder, train_decoder
from pipelines.cluster import Inline, engine
from pipelines.context import Context, Display, Silent
from pipelines.corpus import Corpus, list_corpus
from pipelines.steps import STEPS, Done, Step, require
from pipelines.tracking import ParentRun, TrackingSettings, parent_run


@dataclass(frozen=True)
class Inputs:
    """What the steps read from outside: the photographs, and the pictures to evaluate on (None: held-out crops)."""

    photographs: Corpus
    evaluation: Corpus | None


@dataclass(frozen=True)
class Planned:
    """A step of a dry run. ``step`` is None while it depends on one that has not run."""

    name: str
    step: Step | None
    done: bool


def list_inputs(config: Config) -> Inputs:
    photographs = list_corpus(config.data.uri, setting="data.uri")
    given = config.evaluate.data
    return Inputs(photographs, list_corpus(given, setting="evaluate.data") if given is not None else None)


def retrain(config: Config, display: Display, *, only: str | None = None) -> list[Done]:
    """Run every step that is not done; with ``only``, that one alone, its inputs being required.

    Raises :class:`hfd.errors.HfdError` with one line for whatever is the user's or the world's mistake.
    """
    if only is not None and only not in steps_of(config):
        raise ConfigError("decoder.adversarial: missing, expected its settings for hfd finetune-decoder")
    inputs = list_inputs(config)
    idle = _context(config, display)
    planned = plan(config, inputs)
    if only is not None:
        _require_before(planned, only)
    if all(step.done for step in planned if only in (None, step.name)):
        return _walk(idle, inputs, only)
    with _tracked(config, only) as parent, engine(config.cluster) as ready:
        return _walk(Context(config, idle.workspace, ready, display, parent), inputs, only)


def steps_of(config: Config) -> list[str]:
    """The steps of a configuration, in order."""
    return [name for name in STEPS if name != finetune_decoder.NAME or config.decoder.adversarial is not None]


def _require_before(planned: list[Planned], only: str) -> None:
    """Say what is missing before anything is started."""
    for before in itertools.takewhile(lambda step: step.name != only, planned):
        assert before.step is not None  # every step before it is done
        require(before.step, before.name)


def plan(config: Config, inputs: Inputs) -> list[Planned]:
    """Which steps would run, as far as can be told: a step after one that will run has no key yet."""
    context = _context(config, Silent())
    planned: list[Planned] = []
    done: dict[str, Done] = {}
    for name in steps_of(config):
        step = _plan_step(context, name, inputs, done)
        manifest = step.manifest() if step is not None else None
        if step is not None and manifest is not None:
            done[name] = Done(step, manifest, skipped=True)
        planned.append(Planned(name, step, manifest is not None))
    return planned


def _plan_step(context: Context, name: str, inputs: Inputs, done: dict[str, Done]) -> Step | None:
    needed = {
        "prepare": (),
        "train-autoencoder": ("prepare",),
        "reconstruct": ("prepare", "train-autoencoder"),
        "train-decoder": ("reconstruct", "train-autoencoder"),
        "finetune-decoder": ("reconstruct", "train-autoencoder", "train-decoder"),
        "evaluate": ("prepare", _last_training(context)),
    }[name]
    if not all(other in done for other in needed):
        return None
    if name == "prepare":
        return prepare.plan(context, inputs.photographs, inputs.evaluation)
    if name == "train-autoencoder":
        return train_autoencoder.plan(context, done["prepare"])
    if name == "reconstruct":
        return reconstruct.plan(context, done["prepare"], done["train-autoencoder"])
    if name == "train-decoder":
        return train_decoder.plan(context, done["reconstruct"], done["train-autoencoder"])
    if name == "finetune-decoder":
        return finetune_decoder.plan(context, done["reconstruct"], done["train-autoencoder"], done["train-decoder"])
    return evaluate.plan(context, done["prepare"], done[_last_training(context)], inputs.evaluation)


def _last_training(context: Context) -> str:
    """The step whose folder is the model."""
    return steps_of(context.config)[-2]


def _walk(context: Context, inputs: Inputs, only: str | None) -> list[Done]:
    """Each step in turn; with ``only``, the steps before it are required and not run."""
    done: dict[str, Done] = {}
    for name in steps_of(context.config):
        if only is not None and name != only:
            step = _plan_step(context, name, inputs, done)
            assert step is not None  # every step before it was required
            done[name] = require(step, name)
            continue
        done[name] = _run_step(context, name, inputs, done)
        if name == "prepare" and only is None:
            evaluate.images_of(context, done[name], inputs.evaluation)  # better now than after hours of training
        outcome = "done before" if done[name].skipped else f"{done[name].manifest.seconds:.1f} s"
        context.display.say(f"{name:<18} {outcome:>12}   {done[name].folder.uri}")
        if only is not None:
            return [done[name]]
    return list(done.values())


def _run_step(context: Context, name: str, inputs: Inputs, done: dict[str, Done]) -> Done:
    if name == "prepare":
        return prepare.run(context, inputs.photographs, inputs.evaluation)
    if name == "train-autoencoder":
        return train_autoencoder.run(context, done["prepare"])
    if name == "reconstruct":
        return reconstruct.run(context, done["prepare"], done["train-autoencoder"])
    if name == "train-decoder":
        return train_decoder.run(context, done["reconstruct"], done["train-autoencoder"])
    if name == "finetune-decoder":
        return finetune_decoder.run(context, done["reconstruct"], done["train-autoencoder"], done["train-decoder"])
    model = done[_last_training(context)]
    return evaluate.run(context, done["prepare"], done["train-autoencoder"], model, inputs.evaluation)


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


def tracking_settings(config: Config) -> TrackingSettings:
    """Where runs are recorded; ``auto`` is a SQLite file in the workspace, which therefore has to be local."""
    uri, artifacts = config.tracking.uri, None
    if uri == "auto":
        workspace = Folder(config.workspace_uri)
        if not workspace.is_local:
            raise ConfigError(
                f"tracking.uri: got auto with the remote workspace {config.workspace_uri}, expected the URI of an "
                "MLflow server. Or turn tracking off with tracking.uri=null"
            )
        uri = f"sqlite:///{workspace.path}/mlflow.db"
        artifacts = (workspace.path / "mlartifacts").as_uri()
    return TrackingSettings(uri, config.tracking.experiment, artifacts, config.tracking.system_metrics)
