"""What ``hfd compress``, ``decompress`` and ``info`` do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hfd.codec.codec import Codec, resolve_model, seed_of_file
from hfd.codec.container import LATENTS, unpack
from hfd.errors import BitstreamError, DataError
from hfd.images import encode_png, load_rgb
from hfd.storage import Folder, read_file, write_file
from hfd.terminal import Terminal


def compress_file(picture: Path, output: Path | None, model: Path, *, force: bool) -> str:
    """Compress a picture; a line that says what came out. Raises :class:`hfd.errors.HfdError`."""
    output = _output(picture, output, ".hfd", force)
    x = load_rgb(_existing(picture), name=str(picture))
    compressed = Codec.load(Folder(str(model))).compress(x)
    write_file(output, compressed.data)
    return f"{output}: {x.shape[1]} x {x.shape[0]}, {len(compressed.data)} bytes, {compressed.bpp:.3f} bpp"


def decompress_file(file: Path, output: Path | None, model: Path, *, steps: int, seed: int | None, force: bool) -> str:
    """Decode a file into a PNG; a line that says what came out. Raises :class:`hfd.errors.HfdError`."""
    output = _output(file, output, ".png", force)
    if output.suffix.lower() != ".png":
        raise DataError(f"{output}: got {output.suffix or 'no suffix'}, expected .png")
    data = read_file(_existing(file))
    with _naming(file):
        unpack(data)  # a damaged file is told before the model is loaded
        codec = Codec.load(Folder(str(model)))
        picture = codec.reconstruct(data)
    what = "reconstruction"
    if steps and codec.decoder is not None:
        with Terminal().bar("decompress", "steps") as progress:
            seed = seed_of_file(data) if seed is None else seed
            picture = codec.sample(picture, seed=seed, steps=steps, on_step=lambda step: progress(step + 1, steps))
        what = f"sample of {steps} steps, seed {seed}"
    write_file(output, encode_png(picture))
    return f"{output}: {picture.shape[1]} x {picture.shape[0]}, {what}"


def describe(path: Path) -> str:
    """What a file or model folder holds, in lines. Raises :class:`hfd.errors.HfdError`."""
    if path.is_dir():
        folder = resolve_model(Folder(str(path)))
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
        container = unpack(data)
    bpp = 8 * len(data) / (container.width * container.height)
    named = {"latents" if tag == LATENTS else f"section {tag}": section for tag, section in container.sections.items()}
    return (
        f"size         {container.width} x {container.height}\n"
        f"bytes        {len(data)} ({bpp:.3f} bpp)\n"
        f"model        {container.model.hex()}\n"
        f"holds        {', '.join(f'{name} {len(section)} bytes' for name, section in named.items())}"
    )


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """What is wrong with the bytes, said with the name of the file that held them."""
    try:
        yield
    except BitstreamError as error:
        raise type(error)(f"{file}: {error}") from error


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
