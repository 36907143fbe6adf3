"""Decode TIFF layouts that Pillow misreads or does not know, with libvips, to a Pillow image."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.image.colour import eight_bit_float
from hfd.image.tiff import Directory, page_options


def read_by_libvips(stream: BinaryIO, found: Directory) -> Image.Image:
    """Decode one directory. 16-bit colour keeps the high byte, as in Pillow; deep grey keeps its depth.

    Raises:
        OSError: libvips cannot decode the file.
        ValueError: the samples have no defined white.
    """
    import pyvips  # a native library, which few pictures need

    stream.seek(0)
    pyvips.vips_lib.vips_error_clear()  # remove warnings about other files
    try:
        decoded = pyvips.Image.tiffload_buffer(stream.read(), fail_on="error", autorotate=False, **page_options(found))
        samples = decoded.numpy()
    except pyvips.Error as error:
        raise OSError(str(error)) from error
    if samples.shape[:2] != found.size[::-1]:
        raise OSError(f"{samples.shape[1]} x {samples.shape[0]} px decoded of {found.size[0]} x {found.size[1]}")
    image = _image_of(samples if samples.ndim == 3 else samples[..., None], found)
    image.format = "TIFF"
    exif = image.getexif()
    exif.endian, exif.bigtiff = found.order, found.is_big
    exif.load_from_fp(stream, found.offset)
    if "icc-profile-data" in decoded.get_fields():
        image.info["icc_profile"] = bytes(decoded.get("icc-profile-data"))
    return image


def _image_of(samples: npt.NDArray[Any], found: Directory) -> Image.Image:
    colours = found.photometric
    if colours in (0, 1):
        return _grey_image(samples, has_alpha=samples.shape[2] > 1 and found.extra[:1] in ((1,), (2,)))
    if colours in (8, 9):
        return _lab_image(samples, found)
    eight = (samples >> 8 if samples.dtype == np.uint16 else samples).astype(np.uint8)
    if colours == 5:
        return Image.frombytes("CMYK", found.size, np.ascontiguousarray(eight[..., :4]).tobytes())
    has_alpha = colours == 2 and eight.shape[2] > 3 and found.extra[:1] in ((), (1,), (2,))
    return Image.fromarray(np.ascontiguousarray(eight[..., : 4 if has_alpha else 3]))


def _grey_image(samples: npt.NDArray[Any], *, has_alpha: bool) -> Image.Image:
    grey = samples[..., 0]
    if not has_alpha:
        if samples.dtype in (np.uint8, np.uint16):
            return Image.fromarray(np.ascontiguousarray(grey))
        kind = np.float32 if samples.dtype.kind == "f" else np.int32
        # Integers above 31 bits have no defined white: they stay above the limit of 16 bits.
        return Image.fromarray(grey.astype(kind) if kind is np.float32 else np.minimum(grey, 2**31 - 1).astype(kind))
    if samples.dtype.kind == "f":
        alpha = np.rint(np.clip(np.nan_to_num(samples[..., 1]), 0.0, 1.0) * 255).astype(np.uint8)
        return Image.fromarray(np.dstack([eight_bit_float(grey), alpha]))
    if samples.dtype == np.uint16:
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(samples[..., :2]))


def _lab_image(samples: npt.NDArray[Any], found: Directory) -> Image.Image:
    """Return L* in 0 to 255, a* and b* as signed bytes. 16-bit CIELAB has L* up to 32767, a* and b* times 256."""
    if found.photometric == 9:
        eight = samples ^ np.array([0, 128, 128], np.uint8)
    else:
        light = np.rint(samples[..., :1] * (255 / 32767.5))
        tints = np.rint(samples[..., 1:3] / 256).clip(-128, 127)
        eight = np.concatenate([light, tints], axis=-1).astype(np.int16).astype(np.uint8)
    return Image.frombytes("LAB", found.size, np.ascontiguousarray(eight).tobytes())
