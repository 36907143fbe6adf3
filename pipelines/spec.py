"""The type of a step of the workflow."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hfd.config import Config
    from pipelines.context import Context, PlannedStep
    from pipelines.runs.step import Done

MODEL = "model"
"""In ``StepSpec.needs``: the last training of the configuration."""


@dataclass(frozen=True)
class StepSpec:
    """One step: its command, the steps whose outputs it reads, and the module that plans it.

    ``module`` has a function ``plan(context, *needed)``, called with the finished steps of ``needs`` in that order.
    It is imported on first use, so that the command line starts quickly. ``setting``: the step belongs to a
    configuration only where this setting is not null; None: always. ``makes_model``: its folder is a model folder.
    ``extra``: the extra of ``hfd`` whose packages it needs.
    """

    name: str
    help: str
    module: str
    needs: tuple[str, ...] = ()
    setting: str | None = None
    makes_model: bool = False
    extra: str = "train"

    def wanted(self, config: Config) -> bool:
        """Report whether a configuration has the step."""
        return self.setting is None or functools.reduce(getattr, self.setting.split("."), config) is not None

    def plan(self, context: Context, done: Mapping[str, Done]) -> PlannedStep | None:
        """Return the step with its inputs resolved, having written nothing; None where a step it needs is not done.

        ``done``: finished steps by name, and the one that made the model as ``MODEL``.
        """
        if not all(name in done for name in self.needs):
            return None
        planned: PlannedStep = importlib.import_module(self.module).plan(context, *(done[name] for name in self.needs))
        return planned
