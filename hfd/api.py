"""The Python API: ``hfd.compress`` and ``hfd.decompress``.

Models are loaded at the first call that needs them and kept (:mod:`hfd.codec.library`). Threads may call them;
calls that need the same model wait for each other.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.codec.container import MAX_CODEC_PIXELS, unpack
from hfd.codec.decode import decode
from hfd.codec.encode import Target, encode
from hfd.codec.engines import engine_named
from hfd.codec.library import borrowed, find_models, model_that_made
from hfd.codec.picture.content import Picture, picture_of_array, picture_of_image
from hfd.codec.picture.strips import StripPicture, open_picture
from hfd.codec.sampling_options import SamplingOptions
from hfd.errors import ConfigError, PictureWarning
from hfd.geometry.box import Box
from hfd.io.storage import read_file

PictureLike: TypeAlias = "Image.Image | npt.NDArray[np.uint8] | str | os.PathLike[str]"


def compress(
    image: PictureLike,
    *,
    quality: int | None = None,
    bpp: float | None = None,
    num_bytes: int | None = None,
    refine: int = 0,
    model: str | os.PathLike[str] | None = None,
    keep_alpha: bool = True,
    keep_metadata: bool = False,
    seed: int | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    gamma: float | None = None,
    realism: float | None = None,
    grain: bool | None = None,
    finish: bool | None = None,
    stop: float | None = None,
    engine: str = "auto",
    max_pixels: int = MAX_CODEC_PIXELS,
) -> bytes:
    """Compress a picture to the bytes of an ``.hfd`` file.

    Args:
        image: a Pillow image, an array uint8 (H, W), (H, W, 3) or (H, W, 4) in sRGB, or the path of a picture.
            Its EXIF orientation is applied, and colours are converted to sRGB.
        quality: 1 to 100; or
        bpp: largest size of the whole file, in bits per pixel; or
        num_bytes: largest size of the whole file. None of the three: the default model at its trained rate.
        refine: steps of gradient descent on the latent, such as 100, by torch: fewer bits and less error, for much
            time (:mod:`hfd.autoencoder.refine`). A limit on the size is searched for without them.
        model: a shipped model's name, a model folder, a workspace, or a folder of several models; None: the shipped.
        keep_alpha: keep transparency, lossless; otherwise composite over white.
        keep_metadata: keep EXIF, the rights stated in XMP, the profile of RGB colours, and these colours unconverted.
        seed, steps, sampler, gamma, realism, grain, finish, stop: decoding defaults of the file; see `decompress`.
        engine: of the networks: "onnx" (ONNX Runtime, on the CPU), "torch", or "auto": onnx if it is installed and the
            model has graphs for it, else torch. Files of one engine decode in the other, to the same symbols.
        max_pixels: refuse larger pictures. For files, Pillow's own limit also applies
            (:func:`hfd.image.load.allow_pixels`).

    Warns with :class:`hfd.errors.PictureWarning` of parts of the file that were left out.

    Raises:
        hfd.errors.DataError: no picture, no model, or a limit that cannot be met (the smallest one is named).
        hfd.errors.ConfigError: a value out of range, or more than one target.
    """
    kind, target = engine_named(engine), Target(quality, bpp, num_bytes)
    options = SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed, stop)
    picture = _read(image, keep_alpha=keep_alpha, keep_metadata=keep_metadata, max_pixels=max_pixels)
    for note in picture.notes:
        warnings.warn(f"{_name_of(image)}: {note.text}", PictureWarning, stacklevel=2)
    models = find_models(None if model is None else os.fspath(model))
    return encode(picture, target, models, options, engine=kind, max_pixels=max_pixels, refine_steps=refine).data


def decompress(
    data: bytes | bytearray | memoryview | str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    gamma: float | None = None,
    realism: float | None = None,
    grain: bool | None = None,
    finish: bool | None = None,
    stop: float | None = None,
    region: tuple[int, int, int, int] | None = None,
    workers: int = 1,
    engine: str = "auto",
    max_pixels: int = MAX_CODEC_PIXELS,
) -> Image.Image:
    """Decode an ``.hfd`` file to mode RGB, or L if it is grey, with A where it has transparency.

    Its profile, EXIF and XMP, if kept, are in ``info``.

    Args:
        data: the file's bytes, or its path.
        model: as in `compress`; None: the shipped model that made the file.
        seed: of the sample; None: derived from the file's bytes, so that the same file gives the same picture.
        steps, sampler, gamma, realism, grain, finish, stop: of stage 2 (:class:`hfd.diffusion.sampling.Sampling`);
            None: the file's value, or else the model's. ``realism`` 0 gives x_hat and 1 the sample; ``stop`` from 0 to
            1 ends sampling earlier.
        region: (x, y, width, height) in pixels: only that part.
        workers: processes that share the patches of a large picture. They are spawned: a script that uses them
            needs the usual ``if __name__ == "__main__"``.
        engine: as in `compress`. Pictures of the engines differ by rounding.
        max_pixels: refuse larger pictures, before memory is allocated.

    Raises:
        hfd.errors.BitstreamError: damaged, foreign, or made by another model.
        hfd.errors.DataError, hfd.errors.ConfigError: no model; a value out of range.
    """
    container = unpack(read_file(Path(data)) if isinstance(data, str | os.PathLike) else bytes(data))
    options = SamplingOptions(steps, sampler, gamma, realism, grain, finish, seed, stop)
    part, kind = None if region is None else _box(region), engine_named(engine)
    folder = model_that_made(container, None if model is None else os.fspath(model))
    with borrowed(folder, kind) as codec:
        return decode(container, codec, options, region=part, workers=workers, max_pixels=max_pixels).picture.to_image()


def _box(region: Sequence[int]) -> Box:
    try:
        x, y, width, height = region
    except (TypeError, ValueError) as error:
        raise ConfigError(f"region: got {region!r}, expected (x, y, width, height)") from error
    return Box(y, x, height, width)


def _name_of(image: PictureLike) -> str:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else "image"


def _read(image: PictureLike, *, keep_alpha: bool, keep_metadata: bool, max_pixels: int) -> Picture | StripPicture:
    if isinstance(image, Image.Image):
        return picture_of_image(image, keep_alpha=keep_alpha, keep_metadata=keep_metadata)
    if isinstance(image, np.ndarray):
        return picture_of_array(image, keep_alpha=keep_alpha)
    return open_picture(Path(image), keep_alpha=keep_alpha, keep_metadata=keep_metadata, max_pixels=max_pixels)
