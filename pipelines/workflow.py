"""The steps of the workflow, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines import evaluate, prepare, promote, train
from pipelines.spec import StepSpec

if TYPE_CHECKING:
    from hfd.config import Config

STEPS: tuple[StepSpec, ...] = (prepare.SPEC, *train.SPECS, evaluate.SPEC, promote.SPEC)
STEP_NAMES = tuple(spec.name for spec in STEPS)


def steps_of(config: Config) -> list[StepSpec]:
    """Return the steps of a configuration, in order."""
    if config.evaluate.model == "none":
        return [evaluate.ALONE]
    return [spec for spec in STEPS if spec.wanted(config)]


def model_step(config: Config) -> str | None:
    """Return the name of the step whose folder is the model: the last training; None without a model."""
    return next((spec.name for spec in reversed(steps_of(config)) if spec.makes_model), None)
