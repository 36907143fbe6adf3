"""``hfd decompress``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hfd.cli import options as opt
from hfd.errors import ConfigError

if TYPE_CHECKING:
    from hfd.cli.batch import Batch
    from hfd.cli.convert import Existing, Source
    from hfd.codec.sampling_options import SamplingOptions
    from hfd.geometry.box import Box
    from hfd.kinds import EngineKind


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
    stop: opt.Stop = None,
    grain: opt.Grain = None,
    finish: opt.Finish = None,
    seed: opt.Seed = None,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Decode only this part, in pixels from the upper left corner.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the patches of large pictures.")] = 1,
    max_pixels: opt.MaxPixels = opt.MAX_PIXELS,
    engine: opt.Engine = "auto",
    jobs: opt.Jobs = None,
    force: opt.Force = False,
    skip: opt.Skip = False,
) -> None:
    """Decode .hfd files into pictures.

    With several inputs, failures are reported and the other files still processed (exit code 1), and the last line has
    the totals. Outputs keep the times of their sources.
    """
    from hfd.cli.convert import Existing
    from hfd.codec.sampling_options import SamplingOptions
    from hfd.geometry.box import parse_box

    _decompress_files(
        files,
        output,
        model,
        options=SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed, stop),
        file_format=file_format,
        region=None if region is None else parse_box(region),
        workers=workers,
        max_pixels=max_pixels,
        engine=engine,
        existing=Existing(force, skip),
        jobs=jobs,
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
    jobs: int | None,
) -> None:
    """Decode files into pictures by the rules of :mod:`hfd.cli.batch`. Raises :class:`hfd.errors.HfdError`.

    ``model`` None: the shipped model that made each file. ``file_format``: one of
    :data:`hfd.codec.picture.save.FORMATS`; None: by the suffix of ``output``, or else PNG.
    """
    from hfd.cli.batch import plan
    from hfd.cli.capacity import DECOMPRESS, limits_for, memory_with
    from hfd.cli.run import run
    from hfd.codec.engines import chosen_engine, engine_named
    from hfd.codec.library import find_models
    from hfd.codec.picture.save import format_of

    if file_format is not None:
        format_of(f"--format .{file_format}")
    if jobs not in (None, 1) and workers > 1:
        raise ConfigError(f"--jobs: got {jobs} with --workers {workers}, expected one of them above 1")
    kind = engine_named(engine)
    batch = plan(sources, output, wanted=(".hfd",), suffix=f".{file_format or 'png'}")
    written = _format_of_outputs(batch, file_format)
    convert = Decompression(model, options, written, region, workers, kind, max_pixels, shows_parts=batch.is_one)
    limits = None
    if not batch.is_one and workers == 1:
        memory = memory_with(chosen_engine(find_models(model)[-1], "cpu", kind), DECOMPRESS)
        limits = limits_for(batch.jobs, jobs, memory, _pixels_of)
    run(batch, convert, label="decompress", existing=existing, limits=limits)


@dataclass(frozen=True)
class Decompression:
    """Decodes one file: a :data:`hfd.cli.convert.Convert` that can be sent to another process.

    ``shows_parts``: show the progress of the patches or steps.
    """

    model: str | None
    options: SamplingOptions
    written: str
    region: Box | None
    workers: int
    engine: EngineKind
    max_pixels: int
    shows_parts: bool

    def __call__(self, source: Source, name: str) -> tuple[Iterable[bytes], str]:
        from hfd.cli.messages import naming
        from hfd.cli.progress import Terminal
        from hfd.codec.container import unpack
        from hfd.codec.decode import decode
        from hfd.codec.library import borrowed, model_that_made
        from hfd.codec.picture.save import encode_picture
        from hfd.io.storage import read_file

        data = read_file(source) if isinstance(source, Path) else source
        with naming(name):
            container = unpack(data)  # report a damaged file before loading the model
            folder = model_that_made(container, self.model)
            bar = Terminal().bar("decompress", "parts") if self.shows_parts else nullcontext(None)
            with borrowed(folder, self.engine) as codec, bar as on_progress:
                decoded = decode(
                    container,
                    codec,
                    self.options,
                    region=self.region,
                    workers=self.workers,
                    max_pixels=self.max_pixels,
                    on_progress=on_progress,
                )
                picture = decoded.picture
                pieces = encode_picture(picture, self.written)
                return pieces, f"{picture.width} x {picture.height}, {decoded.description}"


def _pixels_of(path: Path) -> int:
    from hfd.codec.container import HEADER_BYTES, header_size

    with path.open("rb") as stream:
        width, height = header_size(stream.read(HEADER_BYTES))
    return width * height


def _format_of_outputs(batch: Batch, file_format: str | None) -> str:
    from hfd.codec.picture.save import format_of

    single = batch.jobs[0].output if batch.is_one else None
    if single is None:
        return file_format or "png"
    if file_format not in (None, format_of(str(single))):
        raise ConfigError(f"--format: got {file_format} for {single}, expected its suffix. Leave one of them out")
    return format_of(str(single))
