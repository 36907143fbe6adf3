"""What ``hfd compress``, ``decompress``, ``export`` and ``info`` do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hfd.cli.batch import Batch, Existing, Source, plan, run
from hfd.cli.file_info import Facts, facts_of, text_of
from hfd.cli.progress import Terminal
from hfd.codec.container import MAX_CODEC_PIXELS, unpack
from hfd.codec.decode import decode
from hfd.codec.encode import Target, encode
from hfd.codec.export import export_model
from hfd.codec.library import borrowed, find_models, model_that_made
from hfd.codec.patches import OnProgress
from hfd.codec.picture.save import encode_picture, format_of
from hfd.codec.picture.strips import open_picture
from hfd.codec.sampling_options import SamplingOptions
from hfd.errors import BatchError, BitstreamError, ConfigError, DataError, HfdError
from hfd.geometry.box import Box
from hfd.image.load import IMAGE_SUFFIXES, allow_pixels
from hfd.io.model_folders import find_model
from hfd.io.storage import Folder, read_file


@dataclass(frozen=True)
class Kept:
    """What a file keeps beside the colours: ``alpha``, transparency; ``metadata``, ICC profile and EXIF."""

    alpha: bool = True
    metadata: bool = False


def compress_files(
    sources: Sequence[str],
    output: str | None,
    model: str | None,
    *,
    target: Target,
    kept: Kept = Kept(),
    options: SamplingOptions = SamplingOptions(),
    max_pixels: int | None = None,
    existing: Existing = Existing(),
) -> None:
    """Compress pictures, by the rules of :mod:`hfd.cli.batch`. Raises :class:`hfd.errors.HfdError`.

    ``options``: stored in the files.
    """
    most = MAX_CODEC_PIXELS if max_pixels is None else max_pixels
    if max_pixels is not None:
        allow_pixels(max_pixels)
    batch = plan(sources, output, wanted=IMAGE_SUFFIXES, suffix=".hfd")
    models = find_models(model)
    if not batch.is_one:
        with borrowed(models[-1]):
            pass  # a model that cannot be loaded is one mistake, and not one for every file

    def convert(source: Source, name: str) -> tuple[Iterable[bytes], str]:
        picture = open_picture(source, name=name, keep_alpha=kept.alpha, keep_metadata=kept.metadata, max_pixels=most)
        with _naming(name):
            choice = encode(picture, target, models, options, max_pixels=most)
        num_bytes = len(choice.data)
        bpp = 8 * num_bytes / (picture.width * picture.height)
        return [choice.data], f"{picture.width} x {picture.height}, {num_bytes} bytes, {bpp:.3f} bpp"

    run(batch, convert, label="compress", existing=existing)


def decompress_files(
    sources: Sequence[str],
    output: str | None,
    model: str | None,
    options: SamplingOptions,
    *,
    file_format: str | None = None,
    region: Box | None = None,
    workers: int = 1,
    max_pixels: int | None = None,
    existing: Existing = Existing(),
) -> None:
    """Decode files into pictures, by the rules of :mod:`hfd.cli.batch`. Raises :class:`hfd.errors.HfdError`.

    ``model`` None: the shipped model that made each file. ``file_format``: one of
    :data:`hfd.codec.picture.save.FORMATS`; None: by the suffix of ``output``, or else PNG.
    """
    most = MAX_CODEC_PIXELS if max_pixels is None else max_pixels
    if file_format is not None:
        format_of(f"--format .{file_format}")
    batch = plan(sources, output, wanted=(".hfd",), suffix=f".{file_format or 'png'}")
    single = batch.jobs[0].output if batch.is_one else None
    if single is not None and file_format not in (None, format_of(str(single))):
        raise ConfigError(f"--format: got {file_format} for {single}, expected its suffix. Leave one of them out")
    written = file_format or ("png" if single is None else format_of(str(single)))

    def convert(source: Source, name: str) -> tuple[Iterable[bytes], str]:
        data = read_file(source) if isinstance(source, Path) else source
        with _naming(name):
            container = unpack(data)  # report a damaged file before loading the model
            folder = model_that_made(container, model)
        with _naming(name), borrowed(folder) as codec, _progress(batch) as on_progress:
            decoded = decode(
                container, codec, options, region=region, workers=workers, max_pixels=most, on_progress=on_progress
            )
            picture = decoded.picture
            return encode_picture(picture, written), f"{picture.width} x {picture.height}, {decoded.description}"

    run(batch, convert, label="decompress", existing=existing)


@contextmanager
def _progress(batch: Batch) -> Iterator[OnProgress | None]:
    """A bar of one picture's steps or patches; of several files, files are counted instead."""
    if not batch.is_one:
        yield None
        return
    with Terminal().bar("decompress", "parts") as progress:
        yield progress


def export_folder(model: str, output: Path, *, half: bool, steps: int | None) -> str:
    """Copy a model to a folder of its own; a line that says what it holds. Raises :class:`hfd.errors.HfdError`."""
    parts = export_model(find_model(model), Folder(str(output)), half=half, steps=steps)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return f"{output}: {' and '.join(parts)}, {size / 1e6:.1f} MB"


def describe(paths: Sequence[str], *, as_json: bool = False) -> None:
    """Print what files and models hold: in lines, each under its name if there are several, or as a JSON array.

    Raises :class:`BatchError` where some of several cannot be read, and the error itself of a single one.
    """
    found: list[tuple[str, Facts]] = []
    failed = 0
    for path in paths:
        try:
            found += [(path, facts) for facts in facts_of(path)]
        except HfdError as error:
            if len(paths) == 1:
                raise
            failed += 1
            print(f"hfd: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps([facts for _, facts in found], indent=2))
    elif len(found) == 1 and len(paths) == 1:
        print(text_of(found[0][1]))
    else:
        print("\n\n".join(f"{path}\n{text_of(facts)}" for path, facts in found))
    if failed:
        raise BatchError(f"{failed} of {len(paths)} failed")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """What is wrong with the bytes, said with the name of the file that held them."""
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{name}: {error}") from error
    except DataError as error:
        if error.reason not in _OF_THE_FILE:  # what is wrong with the model names the model
            raise
        raise DataError(f"{name}: {error}", reason=error.reason) from error


_OF_THE_FILE = ("too-large", "target", "memory", "region", "format")
