"""The steps of a configuration, in order: what each needs, how it is planned and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hfd.config import Config
from pipelines.context import Context, Display, Silent
from pipelines.corpus.listing import Corpus, list_corpus
from pipelines.evaluate import step as evaluate
from pipelines.prepare import step as prepare
from pipelines.promote import step as promote
from pipelines.runs.step import STEPS, Done, Step
from pipelines.train import autoencoder as train_autoencoder
from pipelines.train import decoder as train_decoder
from pipelines.train import finetune as finetune_decoder
from pipelines.train import reconstruct


@dataclass(frozen=True)
class Inputs:
    """What the steps read from outside: the photographs, and the pictures to evaluate on (None: held-out crops)."""

    photographs: Corpus
    evaluation: Corpus | None


@dataclass(frozen=True)
class Entry:
    """A step of the workflow. ``plan`` and ``run`` are given the context and the steps of ``needs``, in that order."""

    needs: tuple[str, ...]
    _plan: Callable[..., Step]
    _run: Callable[..., Done]

    def plan(self, context: Context, done: Mapping[str, Done]) -> Step | None:
        """The step with its inputs settled; None while one that it needs is not done."""
        if not all(name in done for name in self.needs):
            return None
        return self._plan(context, *(done[name] for name in self.needs))

    def run(self, context: Context, done: Mapping[str, Done]) -> Done:
        return self._run(context, *(done[name] for name in self.needs))


def list_inputs(config: Config, display: Display | None = None) -> Inputs:
    """List what is read from outside, which takes minutes where it is millions of objects."""
    shown, given = display or Silent(), config.evaluate.data
    with shown.bar("list photographs", "files") as progress:
        photographs = list_corpus(config.data.uri, setting="data.uri", on_progress=progress)
    if given is None:
        return Inputs(photographs, None)
    with shown.bar("list pictures", "files") as progress:
        return Inputs(photographs, list_corpus(given, setting="evaluate.data", on_progress=progress))


def steps_of(config: Config) -> list[str]:
    """The steps of a configuration, in order."""
    asked = {finetune_decoder.NAME: config.decoder.adversarial, promote.NAME: config.promote.model}
    return [name for name in STEPS if asked.get(name, True) is not None]


def model_step(config: Config) -> str:
    """The step whose folder is the model: the last training."""
    return train_decoder.NAME if config.decoder.adversarial is None else finetune_decoder.NAME


def workflow(config: Config, inputs: Inputs) -> dict[str, Entry]:
    """The steps of a configuration, by name and in order."""
    photographs, pictures, model = inputs.photographs, inputs.evaluation, model_step(config)
    entries = {
        "prepare": Entry(
            (),
            lambda context: prepare.plan(context, photographs, pictures),
            lambda context: prepare.run(context, photographs, pictures),
        ),
        "train-autoencoder": Entry(("prepare",), train_autoencoder.plan, train_autoencoder.run),
        "reconstruct": Entry(("prepare", "train-autoencoder"), reconstruct.plan, reconstruct.run),
        "train-decoder": Entry(("reconstruct", "train-autoencoder"), train_decoder.plan, train_decoder.run),
        "finetune-decoder": Entry(
            ("reconstruct", "train-autoencoder", "train-decoder"), finetune_decoder.plan, finetune_decoder.run
        ),
        "evaluate": Entry(
            ("prepare", "train-autoencoder", model),
            lambda context, prepared, _, trained: evaluate.plan(context, prepared, trained, pictures),
            lambda context, prepared, stage1, trained: evaluate.run(context, prepared, stage1, trained, pictures),
        ),
        "promote": Entry(
            ("prepare", "train-autoencoder", model, "evaluate"),
            lambda context, _prepared, _autoencoder, trained, evaluated: promote.plan(context, trained, evaluated),
            lambda context, prepared, stage1, trained, evaluated: promote.run(
                context, promote.Upstream(prepared, stage1, trained, evaluated, pictures)
            ),
        ),
    }
    return {name: entries[name] for name in steps_of(config)}
