"""Base class of all sections, and the settings of a training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from hfd.errors import ConfigError
from hfd.io.uris import check_place, expand_home

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PLACE = "place"
"""Type of the errors of :data:`Place`, whose messages repeat no credentials."""


def _place(uri: str) -> str:
    return _checked(uri, with_query=True)


def _workspace(uri: str) -> str:
    return _checked(uri, with_query=False)


def _checked(uri: str, *, with_query: bool) -> str:
    try:
        return check_place(uri, with_query=with_query)
    except ConfigError as error:
        raise PydanticCustomError(PLACE, "{message}", {"message": str(error)}) from None


def expand_sqlite(uri: str) -> str:
    """A tracking URI with the home folder in place of a leading ``~`` of its file."""
    head, mark, path = uri.partition(":///~")
    return f"{head}:///{expand_home(f'~{path}')}" if mark and head.startswith("sqlite") else uri


def name_driver(uri: str) -> str:
    """A tracking URI with the driver of PostgreSQL: SQLAlchemy's default changed with 2.1 to another than psycopg2."""
    return f"postgresql+psycopg2:{uri.removeprefix('postgresql:')}" if uri.startswith("postgresql:") else uri


Place = Annotated[str, AfterValidator(_place)]
"""A folder or ``s3://`` prefix, checked, with a leading ``~`` expanded."""

Workspace = Annotated[str, AfterValidator(_workspace)]
"""A :data:`Place` to write to."""

Precision = Literal["auto", "float32", "bfloat16"]

_BUDGET = re.compile(r"^\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>steps?|s|sec|min|h)\s*$")
_UNIT_S = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}


def duration_s(text: object) -> float:
    """Return a time such as ``90 s``, ``30 min`` or ``2 h`` in seconds. Raises ``ValueError`` for any other."""
    match = _BUDGET.match(text) if isinstance(text, str) else None
    if match is None or match["unit"] not in _UNIT_S or float(match["value"]) <= 0:
        raise ValueError("expected a time, such as '90 s', '30 min', '2 h'")
    return float(match["value"]) * _UNIT_S[match["unit"]]


class Section(BaseModel):
    """A frozen section, which rejects unknown keys, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    later: ClassVar[frozenset[str]] = frozenset()
    """Settings added after version 0.1.0 had made workspaces and models."""

    def content(self, *, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return the settings as JSON values, for keys of steps and configurations of models.

        Settings in ``later`` that have their default are left out, so that the keys of earlier workspaces stay.
        ``include``, ``exclude``: as in pydantic's ``model_dump``.
        """
        return _without_defaults(self, self.model_dump(mode="json", include=include, exclude=exclude))


def _without_defaults(section: Section, settings: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        own = getattr(section, name)
        if name not in section.later or own != type(section).model_fields[name].default:
            kept[name] = _content_of(own, value)
    return kept


def _content_of(own: object, value: Any) -> Any:
    """A value of :meth:`Section.content`: a section, several in a tuple, or anything else as it is."""
    if isinstance(own, Section):
        return _without_defaults(own, value)
    if isinstance(own, tuple) and any(isinstance(one, Section) for one in own):
        return [_content_of(one, each) for one, each in zip(own, value, strict=True)]
    return value


class TrainConfig(Section):
    """One training: budget, batches, optimiser, checkpoints. The same for every training."""

    later = frozenset({"beta2", "lr_drops"})

    budget: str = Field(description="Length: '5000 steps', or a wall time such as '90 s', '10 min', '8 h'.")
    batch_size: int = Field(8, ge=1, description="Samples in a step, over all workers.")
    crop_px: int = Field(256, ge=32, description="Side of a training crop, px.")
    lr: float = Field(1e-4, gt=0.0, le=1.0, description="Largest learning rate.")
    lr_final: float = Field(0.1, gt=0.0, le=1.0, description="Learning rate at the end, as a factor of lr.")
    lr_decay_share: Share = Field(0.15, description="Last share of the steps, over which lr decays.")
    lr_drops: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Decay by so many drops by one factor, spread evenly over lr_decay_share, the first at its start; "
        "None: as a cosine.",
    )
    warmup_steps: int = Field(100, ge=0, description="Linear warm-up from 0, at most a tenth of the steps.")
    weight_decay: float = Field(0.0, ge=0.0, description="Weight decay of AdamW.")
    beta2: float = Field(
        0.999,
        gt=0.0,
        lt=1.0,
        description="Decay of Adam's second moments; a lower one limits the step after a rare large gradient. "
        "Adversarial and perceptual trainings have their own.",
    )
    grad_clip: float = Field(1.0, gt=0.0, description="Largest global gradient norm.")
    precision: Precision = Field(
        "auto", description="Arithmetic; auto: bfloat16 autocast where the hardware supports it, else float32."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    accumulate: int = Field(1, ge=1, description="Passes per step on each worker: less memory, same result.")
    checkpoint_activations: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, about a third more time."
    )
    checkpoint_every_s: float = Field(
        120.0, gt=0.0, description="Seconds between checkpoints; more while the last one is being written."
    )
    log_every_steps: int = Field(20, ge=1, description="Steps between logged metrics.")

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_is_readable(cls, value: object) -> object:
        match = _BUDGET.match(value) if isinstance(value, str) else None
        if match is None or float(match["value"]) <= 0:
            raise ValueError("expected a number of steps or a wall time, such as '5000 steps', '90 s', '10 min', '8 h'")
        if match["unit"].startswith("step") and not float(match["value"]).is_integer():
            raise ValueError("expected a whole number of steps")
        return value

    @property
    def budget_steps(self) -> int | None:
        """Number of optimiser steps; None if the budget is a wall time."""
        match = _BUDGET.match(self.budget)
        assert match is not None
        return int(float(match["value"])) if match["unit"].startswith("step") else None

    @property
    def budget_s(self) -> float | None:
        """Wall time in seconds; None if the budget is a number of steps."""
        return duration_s(self.budget) if self.budget_steps is None else None
