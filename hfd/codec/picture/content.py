"""The parts of a picture that a file stores: colours, transparency and metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.codec.exif import fitted_exif
from hfd.codec.sections import MAX_METADATA_BYTES, AlphaArray, Extras
from hfd.codec.xmp import rights_of, wrapped
from hfd.errors import DataError
from hfd.image.colour import raw_mode_of, split_srgb
from hfd.image.containers import is_all_transparent, note_if_all_transparent
from hfd.image.load import MAX_IMAGE_PIXELS, ImageSource, RgbArray, load_with, turn_of
from hfd.image.notes import Note, add_note, collected_notes
from hfd.image.stated import profile_of_image

STRIP_PIXELS = 2**22

_TURNS: Mapping[Image.Transpose, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: np.fliplr,
    Image.Transpose.FLIP_TOP_BOTTOM: np.flipud,
    Image.Transpose.ROTATE_90: lambda x: np.rot90(x, 1),
    Image.Transpose.ROTATE_180: lambda x: np.rot90(x, 2),
    Image.Transpose.ROTATE_270: lambda x: np.rot90(x, 3),
    Image.Transpose.TRANSPOSE: lambda x: x.swapaxes(0, 1),
    Image.Transpose.TRANSVERSE: lambda x: np.rot90(x, 2).swapaxes(0, 1),
}

_CONVERTED = "left out, and the colours converted to sRGB"
_TIFF_KEPT = frozenset({270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853})
"""Tags of a TIFF that describe the picture (description, camera, resolution, time, rights, EXIF, GPS); the others
describe the file's layout."""


@dataclass(frozen=True)
class Picture:
    """``rgb``: uint8 (H, W, 3), upright; ``extras``: transparency and metadata; ``notes``: about its file."""

    rgb: RgbArray
    extras: Extras = field(default_factory=Extras)
    notes: tuple[Note, ...] = ()

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def is_grey(self) -> bool:
        """True if one channel is enough. A kept profile always has three."""
        return self.extras.is_grey and self.extras.icc is None

    def rows(self, first: int, last: int) -> RgbArray:
        """Return rows ``first`` to ``last`` (exclusive), uint8 (last - first, W, 3)."""
        return self.rgb[first:last]

    def to_image(self) -> Image.Image:
        """Convert to a Pillow image: mode RGB, or L if grey, with A if there is transparency; metadata in ``info``."""
        image = Image.fromarray(self.rgb[..., 0].copy() if self.is_grey else self.rgb)
        if self.extras.alpha is not None:
            image.putalpha(Image.fromarray(self.extras.alpha))
        image.info.update(info_of(self.extras))
        return image


def info_of(extras: Extras) -> dict[str, bytes]:
    """Return profile, EXIF and XMP under Pillow's keys and in its form."""
    exif = None if extras.exif is None else b"Exif\0\0" + extras.exif
    xmp = None if extras.xmp is None else wrapped(extras.xmp)
    held = {"icc_profile": extras.icc, "exif": exif, "xmp": xmp}
    return {key: data for key, data in held.items() if data is not None}


def read_picture(
    source: ImageSource,
    *,
    name: str = "",
    keep_alpha: bool = True,
    keep_metadata: bool = False,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Picture:
    """Read a picture, upright. Raises the errors of :func:`hfd.image.load.load_picture`.

    ``keep_alpha``: keep transparency; colours are white where opacity is 0. Otherwise the picture is composited over
    white. ``keep_metadata``: keep EXIF, the rights of XMP, and an RGB profile with its unconverted colours. Otherwise
    colours are converted to sRGB.
    """

    def convert(image: Image.Image, raw_mode: str) -> Picture:
        kept = kept_metadata(image) if keep_metadata else Extras()
        return _convert(image, raw_mode, turn_of(image), keep_alpha=keep_alpha, keep_profile=keep_metadata, kept=kept)

    with collected_notes() as notes:
        picture = load_with(convert, source, name=name, max_pixels=max_pixels)
    return replace(picture, notes=tuple(notes))


def picture_of_image(
    image: Image.Image,
    *,
    keep_alpha: bool = True,
    keep_metadata: bool = False,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> Picture:
    """As `read_picture`, for an image that Pillow opened or made; the image is not changed.

    ``icc``, ``exif``, ``xmp`` (of which the rights are kept): replace the image's own. Raises :class:`DataError` if
    there are no pixels, or they have no defined white.
    """
    if 0 in image.size:
        raise DataError(f"image: got {image.width} x {image.height} px, expected at least 1 pixel")
    with collected_notes() as notes:
        given = Extras(icc=icc, exif=exif, xmp=None if xmp is None else rights_with_note(xmp))
        picture = _picture_of_image(image, keep_alpha, keep_metadata, given)
    return replace(picture, notes=tuple(notes))


def _picture_of_image(image: Image.Image, keep_alpha: bool, keep_metadata: bool, given: Extras) -> Picture:
    raw_mode = raw_mode_of(image)
    stated = given.icc or profile_of_image(image)
    image.load()
    turn = turn_of(image)
    own_kept = kept_metadata(image) if keep_metadata else Extras()
    kept = Extras(exif=given.exif or own_kept.exif, xmp=given.xmp or own_kept.xmp)
    own = image.copy() if stated is not None or len(image.info) else image  # its info is changed below
    own.info["icc_profile"] = stated
    keep_profile = keep_metadata or given.icc is not None
    try:
        return _convert(own, raw_mode, turn, keep_alpha=keep_alpha, keep_profile=keep_profile, kept=kept)
    except ValueError as error:
        raise DataError(f"image: {error}. Scale it to 8 bits", reason="broken") from error


def picture_of_array(x: npt.NDArray[np.uint8], *, keep_alpha: bool = True) -> Picture:
    """Make a picture from uint8 (H, W), (H, W, 3) or (H, W, 4) in sRGB, the fourth channel opacity.

    Raises :class:`DataError` for another shape or type.
    """
    fits = x.ndim == 2 or (x.ndim == 3 and x.shape[2] in (3, 4))
    if x.dtype != np.uint8 or not fits or 0 in x.shape:
        raise DataError(
            f"image: got {x.dtype} {x.shape}, expected uint8 (H, W), (H, W, 3) or (H, W, 4) with at least 1 pixel. "
            "Scale floats by 255, round and convert them"
        )
    return picture_of_image(Image.fromarray(np.ascontiguousarray(x)), keep_alpha=keep_alpha)


def _convert(
    image: Image.Image,
    raw_mode: str,
    method: Image.Transpose | None,
    *,
    keep_alpha: bool,
    keep_profile: bool,
    kept: Extras,
) -> Picture:
    """Convert by strips, so that memory holds a large picture only twice: as a Pillow image and as an array."""
    note_if_all_transparent(is_all_transparent(image))
    rgb = np.empty((image.height, image.width, 3), dtype=np.uint8)
    alpha: AlphaArray | None = None
    icc: bytes | None = None
    # The scale of floats depends on the largest of the whole picture.
    rows = image.height if image.mode == "F" else max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image if rows >= image.height else image.crop((0, top, image.width, bottom))
        rgb[top:bottom], plane, icc = split_picture(strip, raw_mode, keep_alpha=keep_alpha, keep_profile=keep_profile)
        if plane is not None:
            alpha = np.empty(rgb.shape[:2], dtype=np.uint8) if alpha is None else alpha
            alpha[top:bottom] = plane
    if alpha is not None and int(alpha.min()) == 255:
        alpha = None
    rgb = _turned(rgb, method)
    exif = kept.exif
    if exif is not None and method is not None:
        exif = fitted_exif(exif, rgb.shape[1], rgb.shape[0])
    return Picture(rgb, Extras(None if alpha is None else _turned(alpha, method), icc, exif, xmp=kept.xmp))


def split_picture(
    image: Image.Image, raw_mode: str, *, keep_alpha: bool, keep_profile: bool
) -> tuple[RgbArray, AlphaArray | None, bytes | None]:
    """Split a loaded picture, or a strip of one, into colours, opacity and the profile of the colours.

    See :func:`read_picture`, and :func:`hfd.image.colour.split_srgb`, whose errors are raised.
    """
    profile = image.info.get("icc_profile")
    if keep_profile and isinstance(profile, bytes) and len(profile) > MAX_METADATA_BYTES:
        add_note("profile", f"its colour profile has {len(profile)} bytes, above {MAX_METADATA_BYTES}; {_CONVERTED}")
        keep_profile = False
    colour, plane, icc = split_srgb(image, raw_mode, keep_profile=keep_profile)
    if plane is None or not keep_alpha:
        return np.asarray(colour if plane is None else over_white(colour, plane)), None, icc
    rgb, alpha = np.array(colour), np.asarray(plane)
    rgb[alpha == 0] = 255  # invisible colours must not cost bits
    return rgb, alpha, icc


def over_white(colour: Image.Image, plane: Image.Image) -> Image.Image:
    """Composite an RGB picture with opacity ``plane`` (mode L) over white."""
    white = Image.new("RGB", colour.size, (255, 255, 255))
    white.paste(colour, mask=plane)
    return white


def _turned(x: npt.NDArray[np.uint8], method: Image.Transpose | None) -> npt.NDArray[np.uint8]:
    return x if method is None else np.ascontiguousarray(_TURNS[method](x))


def kept_metadata(image: Image.Image) -> Extras:
    """A picture's EXIF, and the rights of its XMP. What is damaged or too long is left out, and noted."""
    packet = image.info.get("xmp")
    packet = packet.encode() if isinstance(packet, str) else packet
    xmp = rights_with_note(packet) if isinstance(packet, bytes) and packet.strip(b"\0 ") else None
    return Extras(exif=exif_of(image), xmp=xmp)


def rights_with_note(packet: bytes) -> bytes | None:
    """:func:`hfd.codec.xmp.rights_of`; None, with a note, for a packet that cannot be used."""
    try:
        return rights_of(packet)
    except DataError as error:
        add_note("metadata", f"its XMP is left out: {error}")
        return None


def exif_of(image: Image.Image) -> bytes | None:
    """Return a picture's EXIF as stored in its file; for a TIFF, the tags that describe the picture.

    None if there is none, or it is too long for an ``.hfd`` file, which adds a note.
    """
    exif = _exif_of(image)
    if exif is not None and len(exif.removeprefix(b"Exif\0\0")) > MAX_METADATA_BYTES:
        add_note("metadata", f"its EXIF has {len(exif)} bytes, above {MAX_METADATA_BYTES}, and is left out")
        return None
    return exif


def _exif_of(image: Image.Image) -> bytes | None:
    if image.format != "TIFF":
        exif = image.info.get("exif")
        return exif if isinstance(exif, bytes) and len(exif.removeprefix(b"Exif\0\0")) > 0 else None
    # The parser raises errors of many types on damaged EXIF; the pixels are still valid.
    try:
        copy = Image.Exif()  # do not change the image's own
        copy.load(image.getexif().tobytes())
        for tag in set(copy) - _TIFF_KEPT:
            del copy[tag]
        return copy.tobytes() if len(copy) else None
    except Exception:
        return None
