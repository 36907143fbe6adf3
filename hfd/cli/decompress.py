"""``hfd decompress``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hfd.cli import options as opt
from hfd.errors import ConfigError

if TYPE_CHECKING:
    from hfd.cli.batch import Batch, Existing
    from hfd.codec.sampling_options import SamplingOptions
    from hfd.geometry.box import Box


def decompress(
    files: Annotated[list[str], typer.Argument(help=".hfd files, folders of them, or - alone.")],
    model: opt.Model = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file for one picture, a folder, or -. Default: beside each file."),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="png, webp (both lossless) or jpg. Default: the suffix of --output, or png."),
    ] = None,
    steps: opt.Steps = None,
    sampler: opt.Sampler = None,
    gamma: opt.Gamma = None,
    realism: opt.Realism = None,
    grain: opt.Grain = None,
    finish: opt.Finish = None,
    seed: opt.Seed = None,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Decode only this part, in pixels from the upper left corner.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the patches of large pictures.")] = 1,
    max_pixels: opt.MaxPixels = opt.MAX_PIXELS,
    engine: opt.Engine = "auto",
    force: opt.Force = False,
    skip: opt.Skip = False,
) -> None:
    """Decode .hfd files into pictures.

    With several inputs, failures are reported and the other files still processed (exit code 1), and the last line has
    the totals. Outputs keep the times of their sources.
    """
    from hfd.cli.batch import Existing
    from hfd.codec.sampling_options import SamplingOptions
    from hfd.geometry.box import parse_box

    _decompress_files(
        files,
        output,
        model,
        options=SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed),
        file_format=file_format,
        region=None if region is None else parse_box(region),
        workers=workers,
        max_pixels=max_pixels,
        engine=engine,
        existing=Existing(force, skip),
    )


def _decompress_files(
    sources: Sequence[str],
    output: str | None,
    model: str | None,
    *,
    options: SamplingOptions,
    file_format: str | None,
    region: Box | None,
    workers: int,
    max_pixels: int,
    engine: str,
    existing: Existing,
) -> None:
    """Decode files into pictures by the rules of :mod:`hfd.cli.batch`. Raises :class:`hfd.errors.HfdError`.

    ``model`` None: the shipped model that made each file. ``file_format``: one of
    :data:`hfd.codec.picture.save.FORMATS`; None: by the suffix of ``output``, or else PNG.
    """
    from hfd.cli.batch import plan, run
    from hfd.cli.messages import naming
    from hfd.cli.progress import Terminal
    from hfd.codec.container import unpack
    from hfd.codec.decode import decode
    from hfd.codec.engines import engine_named
    from hfd.codec.library import borrowed, model_that_made
    from hfd.codec.picture.save import encode_picture, format_of
    from hfd.io.storage import read_file

    if file_format is not None:
        format_of(f"--format .{file_format}")
    kind = engine_named(engine)
    batch = plan(sources, output, wanted=(".hfd",), suffix=f".{file_format or 'png'}")
    written = _format_of_outputs(batch, file_format)

    def convert(source: Path | bytes, name: str) -> tuple[Iterable[bytes], str]:
        data = read_file(source) if isinstance(source, Path) else source
        with naming(name):
            container = unpack(data)  # report a damaged file before loading the model
            folder = model_that_made(container, model)
            # steps or patches of a single picture; the batch counts several files
            bar = Terminal().bar("decompress", "parts") if batch.is_one else nullcontext(None)
            with borrowed(folder, kind) as codec, bar as on_progress:
                decoded = decode(
                    container,
                    codec,
                    options,
                    region=region,
                    workers=workers,
                    max_pixels=max_pixels,
                    on_progress=on_progress,
                )
                picture = decoded.picture
                return encode_picture(picture, written), f"{picture.width} x {picture.height}, {decoded.description}"

    run(batch, convert, label="decompress", existing=existing)


def _format_of_outputs(batch: Batch, file_format: str | None) -> str:
    from hfd.codec.picture.save import format_of

    single = batch.jobs[0].output if batch.is_one else None
    if single is None:
        return file_format or "png"
    if file_format not in (None, format_of(str(single))):
        raise ConfigError(f"--format: got {file_format} for {single}, expected its suffix. Leave one of them out")
    return format_of(str(single))
