"""Convert any pixel format of Pillow to 8-bit sRGB: sample depth, transparency, colour profile."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from hfd.image.notes import add_note

_PROFILE_SPACE = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
# PNG states the transparent grey in the file's own depth, but Pillow stretches only the pixels to 8 bits.
_GREY_STRETCH = {"L;2": 85, "L;4": 17}


def raw_mode_of(image: Image.Image) -> str:
    """Name the sample layout in the file (``"I;12"``, ``"RGB;16B"``, ``""``: unknown). Call before loading."""
    tiles = getattr(image, "tile", None) or []
    args = tiles[0].args if tiles else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def to_srgb(image: Image.Image, raw_mode: str) -> Image.Image:
    """Convert a loaded picture of any mode to RGB: apply its colour profile, then composite it over white.

    Args:
        image: loaded, of any mode that Pillow decodes to, with its ``info`` (profile, transparency).
        raw_mode: result of `raw_mode_of` before loading.

    Returns:
        Mode RGB, the same size, sRGB.

    Raises:
        ValueError: the sample values have no defined white (NaN, infinite, or integers outside 16 bits).
    """
    rgb, alpha, _ = split_srgb(image, raw_mode)
    if alpha is None:
        return rgb.copy() if rgb is image else rgb
    white = Image.new("RGB", rgb.size, (255, 255, 255))
    white.paste(rgb, mask=alpha)
    return white


def split_srgb(
    image: Image.Image, raw_mode: str, *, keep_profile: bool = False
) -> tuple[Image.Image, Image.Image | None, bytes | None]:
    """Convert as `to_srgb` without compositing, to colour (RGB), alpha (L, or None) and the colour's ICC profile.

    The profile is None, for sRGB, unless ``keep_profile`` is set and the picture has an intact RGB profile other than
    sRGB; then the values stay as in the file, for that profile. Raises as `to_srgb`.
    """
    colour, alpha = _split_alpha(image, raw_mode)
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return (colour if colour.mode == "RGB" else colour.convert("RGB")), alpha, None
    if not fits_profile(profile, colour.mode):
        note_of_profile()
        return (colour if colour.mode == "RGB" else colour.convert("RGB")), alpha, None
    if keep_profile and colour.mode == "RGB" and _transform(profile, "RGB") is not None:
        return colour, alpha, profile
    return _manage(colour, profile) or colour.convert("RGB"), alpha, None


def note_of_profile() -> None:
    """Add a note that a picture's profile is not used."""
    add_note("profile", "its colour profile is damaged, or of other colours than its pixels; left out, taken as sRGB")


def _split_alpha(image: Image.Image, raw_mode: str) -> tuple[Image.Image, Image.Image | None]:
    """Return the colour in 8 bits a sample, and the alpha channel (mode L) if the picture has transparency."""
    if image.mode == "F":
        return Image.fromarray(eight_bit_float(np.asarray(image))), None
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _split_deep_grey(image, raw_mode)
    if image.has_transparency_data:
        key = image.info.get("transparency")
        if image.mode == "L" and isinstance(key, int):
            image.info["transparency"] = key * _GREY_STRETCH.get(raw_mode, 1)
        elif image.mode == "RGB" and isinstance(key, tuple) and raw_mode.startswith("RGB;16"):
            image.info["transparency"] = tuple(value >> 8 for value in key)
        is_grey = image.mode in ("1", "L", "LA")
        full = image.convert("LA" if is_grey else "RGBA")
        return full.convert("L" if is_grey else "RGB"), full.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in (*_PROFILE_SPACE, "LAB") else image.convert("RGB")), None


def _split_deep_grey(image: Image.Image, raw_mode: str) -> tuple[Image.Image, Image.Image | None]:
    samples = np.asarray(image)
    grey = Image.fromarray(_eight_bit_integer(samples, white=4095 if raw_mode == "I;12" else 65535))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return grey, None
    return grey, Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8))


def _eight_bit_integer(samples: npt.NDArray[np.integer[Any]], *, white: int) -> npt.NDArray[np.uint8]:
    if samples.size and (int(samples.min()) < 0 or int(samples.max()) > white):
        raise ValueError(f"grey samples from {samples.min()} to {samples.max()} leave [0, {white}]")
    return ((samples.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def eight_bit_float(samples: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """Convert greys of [0, 1], or of [0, 255] where one exceeds 2. Raises ValueError unless all are finite."""
    if not np.isfinite(samples).all():
        raise ValueError("grey samples are not all finite")
    # The limit is 2, since resampling overshoots 1 a little; a picture in [0, 255] below 2 would be black anyway.
    scale = 255.0 if samples.size == 0 or float(samples.max()) <= 2.0 else 1.0
    return np.rint(np.clip(samples * scale, 0.0, 255.0)).astype(np.uint8)


@lru_cache(maxsize=32)
def fits_profile(profile: bytes, mode: str) -> bool:
    """Return True if a profile is intact and has the colour space of the mode."""
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
        _transform(profile, mode)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return False
    return bool(space == _PROFILE_SPACE.get(mode))


def _manage(colour: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert to mode RGB by the embedded ICC profile; None if the profile is broken or does not fit."""
    try:
        transform = _transform(profile, colour.mode)
        if transform is None:
            return None
        if colour.mode != "L":
            return ImageCms.applyTransform(colour, transform)
        ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
        exact = ImageCms.applyTransform(ramp, transform)
        return None if exact is None else Image.fromarray(np.asarray(exact)[0][np.asarray(colour)])
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform to sRGB; None for another colour space, or sRGB already. Cached: many pictures share one."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space != _PROFILE_SPACE.get(mode):
        return None
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    # LittleCMS approximates a grey transform by a coarse table, up to 10 levels off near black. Exact conversion
    # of all 256 greys costs almost nothing.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    transform = ImageCms.buildTransform(source, target, mode, "RGB", flags=flags)
    return None if mode == "RGB" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return True if a transform changes a 17 x 17 x 17 grid of colours by at most one level: the profile is sRGB."""
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(17, -1, 3)
    moved = ImageCms.applyTransform(Image.fromarray(grid), transform)
    return moved is not None and bool((np.abs(np.asarray(moved, dtype=np.int16) - grid) <= 1).all())
