"""What ``hfd compress``, ``decompress`` and ``info`` do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

from hfd.codec.codec import Codec, find_model, model_of_file, resolve_model, seed_of_file, shipped_models
from hfd.codec.container import ICC, SAMPLING, SECTION_NAMES, VERSION, Container, unpack
from hfd.codec.export import export_model
from hfd.codec.sections import DefaultSampling, decode_sampling
from hfd.diffusion.sampling import SamplerKind, Sampling
from hfd.errors import BitstreamError, ConfigError, DataError
from hfd.images import encode_png, load_rgb
from hfd.storage import Folder, read_file, write_file
from hfd.terminal import Terminal

DEFAULT_MODEL = "desk-025"
"""The shipped model that compresses where none is named."""


@dataclass(frozen=True)
class SamplingOptions:
    """What the command line says of sampling; None: the model's own."""

    steps: int | None
    sampler: str
    gamma: float
    realism: float
    grain: bool
    finish: bool = True

    def resolve(self, codec: Codec) -> Sampling:
        """Raises :class:`hfd.errors.ConfigError` on a value out of range, or a sampler that does not fit."""
        steps = codec.default_sampling.steps if self.steps is None else self.steps
        kind = cast(SamplerKind, self.sampler)  # checked by Sampling itself
        settings = Sampling(steps, kind, self.gamma, self.realism, self.grain, self.finish)
        if codec.decoder is not None:
            settings.kind_for(codec.decoder.process)
        return settings


def compress_file(picture: Path, output: Path | None, model: str | None, *, force: bool) -> str:
    """Compress a picture; a line that says what came out. Raises :class:`hfd.errors.HfdError`."""
    output = _output(picture, output, ".hfd", force)
    x = load_rgb(_existing(picture), name=str(picture))
    compressed = Codec.load(_model(model)).compress(x)
    write_file(output, compressed.data)
    return f"{output}: {x.shape[1]} x {x.shape[0]}, {len(compressed.data)} bytes, {compressed.bpp:.3f} bpp"


def _model(model: str | None) -> Folder:
    if model is None and DEFAULT_MODEL not in shipped_models():
        raise ConfigError("model: missing, expected --model FOLDER: no model ships with this version")
    return find_model(model or DEFAULT_MODEL)


def decompress_file(
    file: Path, output: Path | None, model: str | None, options: SamplingOptions, *, seed: int | None, force: bool
) -> str:
    """Decode a file into a PNG; a line that says what came out. Raises :class:`hfd.errors.HfdError`.

    ``model`` None: the shipped model that made the file.
    """
    output = _output(file, output, ".png", force)
    if output.suffix.lower() != ".png":
        raise DataError(f"{output}: got {output.suffix or 'no suffix'}, expected .png")
    data = read_file(_existing(file))
    with _naming(file):
        unpack(data)  # a damaged file is told before the model is loaded
        codec = Codec.load(model_of_file(data) if model is None else find_model(model))
        settings = options.resolve(codec)
        picture = codec.reconstruct(data)
    what = "reconstruction"
    if settings.realism > 0.0 and codec.decoder is not None:
        with Terminal().bar("decompress", "steps") as progress:
            seed = seed_of_file(data) if seed is None else seed
            steps = settings.steps
            picture = codec.sample(picture, settings, seed=seed, on_step=lambda step: progress(step + 1, steps))
        what = f"sample of {settings.label}, seed {seed}"
    write_file(output, encode_png(picture))
    return f"{output}: {picture.shape[1]} x {picture.shape[0]}, {what}"


def export_folder(model: str, output: Path, *, half: bool, steps: int | None) -> str:
    """Copy a model to a folder of its own; a line that says what it holds. Raises :class:`hfd.errors.HfdError`."""
    parts = export_model(find_model(model), Folder(str(output)), half=half, steps=steps)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return f"{output}: {' and '.join(parts)}, {size / 1e6:.1f} MB"


def describe(path: Path) -> str:
    """What a file or model folder holds, in lines. Raises :class:`hfd.errors.HfdError`."""
    shipped = shipped_models().get(str(path))
    if shipped is not None or path.is_dir():
        folder = shipped or resolve_model(Folder(str(path)))
        codec = Codec.load(folder)
        stage2 = "none" if codec.decoder is None else codec.decoder.fingerprint[:8]
        settings = {key: value for key, value in codec.autoencoder.config.items() if key != "format"}
        return (
            f"model        {folder.uri}\n"
            f"autoencoder  {codec.autoencoder.fingerprint[:8]}  {settings}\n"
            f"decoder      {stage2}"
        )
    data = read_file(_existing(path))
    with _naming(path):
        return _describe_file(unpack(data), len(data))


def _describe_file(container: Container, num_bytes: int) -> str:
    bpp = 8 * num_bytes / (container.width * container.height)
    held = (
        f"{SECTION_NAMES.get(tag, f'section {tag}')} {len(section)} bytes"
        for tag, section in container.sections.items()
    )
    lines = [
        f"size         {container.width} x {container.height}",
        f"bytes        {num_bytes} ({bpp:.3f} bpp)",
        f"version      {VERSION}",
        f"model        {container.model.hex()}",
        f"rate         {container.rate}",
        f"colour       {'of its ICC profile' if ICC in container.sections else 'sRGB'}",
        f"checksum     {container.checksum:08x}",
        f"holds        {', '.join(held)}",
    ]
    if SAMPLING in container.sections:
        lines.append(f"sampling     {_describe_sampling(decode_sampling(container.sections[SAMPLING]))}")
    return "\n".join(lines)


def _describe_sampling(wish: DefaultSampling) -> str:
    """What differs from the defaults."""
    named = ((field.name, getattr(wish, field.name), field.default) for field in fields(wish))
    return ", ".join(f"{name} {value}" for name, value, default in named if value != default)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """What is wrong with the bytes, said with the name of the file that held them."""
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{file}: {error}") from error
    except DataError as error:
        if error.reason != "too-large":  # what is wrong with the model names the model
            raise
        raise DataError(f"{file}: {error}", reason=error.reason) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: got {kind}, expected a file", reason="missing")
    return path


def _output(source: Path, output: Path | None, suffix: str, force: bool) -> Path:
    output = source.with_suffix(suffix) if output is None else output
    if output.is_dir():
        raise DataError(f"{output}: got a folder, expected the name of a file for --output")
    if output.exists() and source.exists() and output.samefile(source):
        raise DataError(f"{output}: is the input itself. Give another --output")
    if output.exists() and not force:
        raise DataError(f"{output}: exists already. Give another --output, or --force to replace it")
    return output
