"""``hfd compress``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hfd.cli import options as opt
from hfd.errors import ConfigError

if TYPE_CHECKING:
    from hfd.cli.convert import Existing, Source
    from hfd.codec.encode import Target
    from hfd.codec.sampling_options import SamplingOptions
    from hfd.io.storage import Folder
    from hfd.kinds import EngineKind


def compress(
    pictures: Annotated[
        list[str], typer.Argument(help="Pictures in any format that Pillow opens, folders of them, or - alone.")
    ],
    model: opt.Model = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file for one picture, a folder, or -. Default: beside each picture."),
    ] = None,
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="From 1 to 100, the best.")] = None,
    bpp: Annotated[float | None, typer.Option(help="Largest size of the whole file, in bits per pixel.")] = None,
    num_bytes: Annotated[int | None, typer.Option("--bytes", help="Largest size of each file, in bytes.")] = None,
    refine: Annotated[
        int,
        typer.Option(
            metavar="STEPS",
            help="Steps of gradient descent on the latent, such as 100: fewer bits and less error, for more time.",
        ),
    ] = 0,
    keep_metadata: Annotated[
        bool, typer.Option("--keep-metadata", help="Keep EXIF, XMP rights, the colour profile and unconverted colours.")
    ] = False,
    alpha: Annotated[
        bool, typer.Option("--alpha/--no-alpha", help="Keep transparency, lossless, or composite over white.")
    ] = True,
    steps: opt.Steps = None,
    sampler: opt.Sampler = None,
    gamma: opt.Gamma = None,
    realism: opt.Realism = None,
    stop: opt.Stop = None,
    grain: opt.Grain = None,
    finish: opt.Finish = None,
    seed: opt.Seed = None,
    max_pixels: opt.MaxPixels = opt.MAX_PIXELS,
    engine: opt.Engine = "auto",
    jobs: opt.Jobs = None,
    only_smaller: Annotated[
        bool, typer.Option("--only-smaller", help="Write no file that is not smaller than its source.")
    ] = False,
    force: opt.Force = False,
    skip: opt.Skip = False,
) -> None:
    """Compress pictures into .hfd files.

    Sampling options are stored in the file as its decoding defaults.

    With several inputs, failures are reported and the other files still processed (exit code 1), and the last line has
    the totals. Outputs keep the times of their sources.
    """
    from hfd.cli.convert import Existing
    from hfd.codec.encode import Target
    from hfd.codec.sampling_options import SamplingOptions

    _compress_files(
        pictures,
        output,
        model,
        target=Target(quality, bpp, num_bytes),
        kept=Kept(alpha, keep_metadata),
        options=SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed, stop),
        max_pixels=max_pixels,
        engine=engine,
        refine=refine,
        only_smaller=only_smaller,
        existing=Existing(force, skip),
        jobs=jobs,
    )


@dataclass(frozen=True)
class Kept:
    """Parts of a picture to keep beside its colours: ``alpha``; ``metadata``, ICC profile, EXIF and XMP rights."""

    alpha: bool = True
    metadata: bool = False


def _compress_files(
    sources: Sequence[str],
    output: str | None,
    model: str | None,
    *,
    target: Target,
    kept: Kept,
    options: SamplingOptions,
    max_pixels: int,
    engine: str,
    refine: int,
    only_smaller: bool,
    existing: Existing,
    jobs: int | None,
) -> None:
    """Compress pictures by the rules of :mod:`hfd.cli.batch`. ``options``: stored in the files.

    Raises :class:`hfd.errors.HfdError`.
    """
    from hfd.cli.batch import plan
    from hfd.cli.capacity import COMPRESS, REFINE, limits_for, memory_with
    from hfd.cli.run import run
    from hfd.codec.engines import chosen_engine, engine_named
    from hfd.codec.library import borrowed, find_models
    from hfd.codec.refinement import check_refine
    from hfd.image.load import IMAGE_SUFFIXES

    kind = engine_named(engine)
    check_refine(refine)
    batch = plan(sources, output, wanted=IMAGE_SUFFIXES, suffix=".hfd")
    if only_smaller and batch.is_one and batch.jobs[0].output is None:
        raise ConfigError("--only-smaller: got standard output, expected a file or a folder. Give --output FILE")
    models = find_models(model)
    convert = Compression(tuple(models), target, kept, options, kind, max_pixels, only_smaller, refine, batch.is_one)
    if batch.is_one:
        run(batch, convert, label="compress", existing=existing)
        return
    with borrowed(models[-1], kind):
        pass  # load now, to report a missing model once, not per file
    memory = REFINE if refine else memory_with(chosen_engine(models[-1], "cpu", kind), COMPRESS)
    limits = limits_for(batch.jobs, jobs, memory, partial(_pixels_of, max_pixels=max_pixels))
    run(batch, convert, label="compress", existing=existing, limits=limits)


@dataclass(frozen=True)
class Compression:
    """Compresses one picture: a :data:`hfd.cli.convert.Convert` that can be sent to another process.

    ``refine``: steps on its latent; ``shows_steps``: show their progress.
    """

    models: tuple[Folder, ...]
    target: Target
    kept: Kept
    options: SamplingOptions
    engine: EngineKind
    max_pixels: int
    only_smaller: bool
    refine: int
    shows_steps: bool

    def __call__(self, source: Source, name: str) -> tuple[Iterable[bytes] | None, str]:
        from hfd.cli.convert import size_of
        from hfd.cli.messages import naming, report_notes
        from hfd.cli.progress import Terminal
        from hfd.codec.encode import encode
        from hfd.codec.picture.strips import open_picture
        from hfd.image.load import allow_pixels

        if self.max_pixels != opt.MAX_PIXELS:
            allow_pixels(self.max_pixels)
        picture = open_picture(
            source,
            name=name,
            keep_alpha=self.kept.alpha,
            keep_metadata=self.kept.metadata,
            max_pixels=self.max_pixels,
        )
        report_notes(name, picture.notes)
        bar = Terminal().bar("refine", "steps") if self.refine and self.shows_steps else nullcontext(None)
        with naming(name), bar as on_progress:
            choice = encode(
                picture,
                self.target,
                self.models,
                self.options,
                engine=self.engine,
                max_pixels=self.max_pixels,
                refine_steps=self.refine,
                on_progress=on_progress,
            )
        data, size = choice.data, size_of(source)
        bpp = 8 * len(data) / (picture.width * picture.height)
        if self.only_smaller and len(data) >= size:
            return None, f"{len(data)} bytes would not be smaller than the source ({size:,} bytes), not written"
        grown = f", larger than the source ({size:,} bytes)" if len(data) > size else f" (source: {size:,} bytes)"
        return [data], f"{picture.width} x {picture.height}, {len(data)} bytes, {bpp:.3f} bpp{grown}"


def _pixels_of(path: Path, max_pixels: int) -> int:
    from hfd.image.load import look_with

    width, height = look_with(lambda image, _: image.size, path, max_pixels=max_pixels)
    return width * height
