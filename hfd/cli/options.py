"""Options that several commands share."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from hfd.codec.container import MAX_CODEC_PIXELS


def not_nan(value: float | None) -> float | None:
    """Refuse NaN: a callback of options whose limits it would pass."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("got nan, expected a number")
    return value


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A shipped model's name, a model folder, a workspace (its newest model), or a folder of models.",
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option("--max-pixels", min=1, help="Refuse larger pictures, as a protection against forged headers."),
]
MAX_PIXELS = MAX_CODEC_PIXELS
Engine = Annotated[
    str,
    typer.Option(help="What runs the networks: onnx (ONNX Runtime), torch, or auto, onnx where it and graphs are."),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Files at once, each in a process of one thread. Default: one per core, fewer for small batches.",
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace existing outputs.")]
Skip = Annotated[bool, typer.Option("--skip", "-s", help="Keep existing outputs and continue.")]

_SAMPLING = "Sampling"


def _share(text: str) -> Any:
    """An option of stage 2 from 0 to 1. ``text``: its help."""
    return typer.Option(min=0.0, max=1.0, callback=not_nan, rich_help_panel=_SAMPLING, help=text)


Steps = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, rich_help_panel=_SAMPLING, help="Steps of stage 2. Default: the model's own."),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_SAMPLING,
        help="ancestral, ddim or dpmpp-2m for a diffusion; euler, heun or midpoint for a flow.",
    ),
]
Gamma = Annotated[float | None, _share("Noise of the ancestral sampler. Default: 0.")]
Realism = Annotated[float | None, _share("From 0, the reconstruction, to 1, the sample (the default).")]
Stop = Annotated[
    float | None,
    _share(
        "Stop sampling at this share of its path, from 1, the start, to 0, the end (the default): less error, "
        "less realism, fewer steps."
    ),
]
Grain = Annotated[
    bool | None,
    typer.Option("--grain/--no-grain", rich_help_panel=_SAMPLING, help="Add the fine noise that samples lack."),
]
Finish = Annotated[
    bool | None,
    typer.Option(
        "--finish/--no-finish",
        rich_help_panel=_SAMPLING,
        help="Apply the model's finish, or keep the network's sample.",
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, rich_help_panel=_SAMPLING, help="Default: derived from the file's bytes.")
]
