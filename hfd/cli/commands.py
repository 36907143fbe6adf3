"""The commands of the codec. Heavy imports stay inside them, so that ``hfd --help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hfd.codec.container import MAX_CODEC_PIXELS

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A shipped model's name, a model folder, a workspace, whose newest model counts, or a folder of models.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help=f"The most pixels of a picture, against forged headers. Default: {MAX_CODEC_PIXELS}.",
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace existing outputs.")]
_SAMPLING = "Sampling"
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
Gamma = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, rich_help_panel=_SAMPLING, help="Noise of the ancestral sampler. Default: 0."),
]
Realism = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        rich_help_panel=_SAMPLING,
        help="From 0, the reconstruction, to 1, the sample, the default.",
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
        help="The finish the model has, or the sample as the network gave it.",
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, rich_help_panel=_SAMPLING, help="Default: drawn from the file's bytes.")
]
Skip = Annotated[bool, typer.Option("--skip", "-s", help="Leave existing outputs as they are and go on.")]


def compress(
    pictures: Annotated[
        list[str], typer.Argument(help="Pictures in any format that Pillow opens, folders of them, or - alone.")
    ],
    model: Model = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file for one picture, a folder, or -. Default: beside each picture."),
    ] = None,
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="From 1 to 100, the best.")] = None,
    bpp: Annotated[float | None, typer.Option(help="The most bits of the whole file per pixel.")] = None,
    num_bytes: Annotated[int | None, typer.Option("--bytes", help="The most bytes of each file.")] = None,
    keep_metadata: Annotated[
        bool, typer.Option("--keep-metadata", help="Keep EXIF, and colours and profile as they are in place of sRGB.")
    ] = False,
    alpha: Annotated[
        bool, typer.Option("--alpha/--no-alpha", help="Keep transparency, without loss, or put it over white.")
    ] = True,
    steps: Steps = None,
    sampler: Sampler = None,
    gamma: Gamma = None,
    realism: Realism = None,
    grain: Grain = None,
    finish: Finish = None,
    seed: Seed = None,
    max_pixels: MaxPixels = None,
    force: Force = False,
    skip: Skip = False,
) -> None:
    """Compress pictures into .hfd files.

    What is said of sampling is kept in the files, for those who decode them and say nothing themselves.

    Of several, or a folder's, those that fail are told and the others done: exit code 1. Files keep their times.
    """
    from hfd.cli.batch import Existing
    from hfd.cli.run import Kept, compress_files
    from hfd.codec.encode import Target
    from hfd.codec.sampling_options import SamplingOptions

    target, existing = Target(quality, bpp, num_bytes), Existing(force, skip)
    options = SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed)
    compress_files(
        pictures,
        output,
        model,
        target=target,
        kept=Kept(alpha, keep_metadata),
        options=options,
        max_pixels=max_pixels,
        existing=existing,
    )


def decompress(
    files: Annotated[list[str], typer.Argument(help=".hfd files, folders of them, or - alone.")],
    model: Model = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file for one picture, a folder, or -. Default: beside each file."),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="png, webp (both without loss) or jpg. Default: the suffix of --output, or png."),
    ] = None,
    steps: Steps = None,
    sampler: Sampler = None,
    gamma: Gamma = None,
    realism: Realism = None,
    grain: Grain = None,
    finish: Finish = None,
    seed: Seed = None,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Only this part, in pixels from the upper left corner.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the patches of large pictures.")] = 1,
    max_pixels: MaxPixels = None,
    force: Force = False,
    skip: Skip = False,
) -> None:
    """Decode .hfd files into pictures.

    Of several, or a folder's, those that fail are told and the others done: exit code 1. Files keep their times.
    """
    from hfd.cli.batch import Existing
    from hfd.cli.run import decompress_files
    from hfd.codec.sampling_options import SamplingOptions
    from hfd.geometry.box import parse_box

    options = SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed)
    decompress_files(
        files,
        output,
        model,
        options,
        file_format=file_format,
        region=None if region is None else parse_box(region),
        workers=workers,
        max_pixels=max_pixels,
        existing=Existing(force, skip),
    )


def export(
    model: Annotated[str, typer.Argument(help="A model folder, a workspace, or a shipped model's name.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store the networks in half precision.")] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Sampling steps of the copy by default. Default: the model's.")
    ] = None,
) -> None:
    """Copy a trained model to a folder of its own, to hand on."""
    from hfd.cli.run import export_folder

    print(export_folder(model, output, half=half, steps=steps))


def info(
    files: Annotated[list[str], typer.Argument(help=".hfd files, model folders or names, or workspaces.")],
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """Say what .hfd files, model folders or workspaces hold."""
    from hfd.cli.run import describe

    describe(files, as_json=as_json)
