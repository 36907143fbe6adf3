"""Open the picture of a container with the decoder that reads it correctly; name formats that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from hfd.errors import DataError
from hfd.image.deep_tiff import read_by_libvips
from hfd.image.failures import ADVICE, check_size, one_line
from hfd.image.formats import HEIC, RAW, advice_for, is_heic, unread_format
from hfd.image.notes import add_note
from hfd.image.side_data import open_with_side_data
from hfd.image.tiff import Directory, count_pages, from_directory, picture_of
from hfd.image.tiff_readers import readers_of

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TGA_ATTRIBUTE_BITS = 15


def open_container(stream: BinaryIO, label: str, max_pixels: int) -> Image.Image:
    """Open a picture without decoding it; for a TIFF, the directory that :func:`hfd.image.tiff.picture_of` chooses.

    Raises:
        DataError: reason ``"unread-format"``, with the name of the format or of the layout.
    """
    head = stream.read(64)
    stream.seek(0)
    if (name := unread_format(head=head)) is not None:
        raise _unread(label, name)
    if head.startswith(_TIFF_HEADS) and (found := picture_of(stream)) is not None:
        return _open_tiff(stream, found, label, max_pixels)
    if is_heic(head):
        import pillow_heif  # the extra ``heic``; unread_format refuses without it

        try:
            image: Image.Image = pillow_heif.HeifImageFile(stream)
        except Exception as error:
            message = f"{label}: got {HEIC} that does not open ({one_line(error)}), expected a whole image. {ADVICE}"
            raise DataError(message, reason="broken") from error
        return image
    return open_with_side_data(stream)


def without_padding(image: Image.Image, stream: BinaryIO) -> Image.Image:
    """Drop the alpha of a decoded TGA that states no attribute bits: Pillow reads its padding as alpha."""
    stream.seek(17)
    attribute_bits = stream.read(1)[0] & _TGA_ATTRIBUTE_BITS
    if attribute_bits or not image.has_transparency_data:
        return image
    return image.convert("L" if image.mode == "LA" else "RGB")


def is_all_transparent(image: Image.Image) -> bool:
    """Return True for a decoded image in which each pixel has an opacity of 0."""
    if not image.has_transparency_data:
        return False
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return bool(image.getchannel(image.mode[-1]).getextrema()[1] == 0)
    try:
        return bool(image.convert("RGBA").getchannel("A").getextrema()[1] == 0)
    except ValueError:  # deep grey
        return False


def note_if_all_transparent(is_transparent: bool) -> None:
    """Add a note to a picture whose colours are lost."""
    if is_transparent:
        add_note("picture", "is transparent in every pixel; its invisible colours are not kept")


def _unread(label: str, name: str) -> DataError:
    return DataError(f"{label}: got {name}, expected a supported format.  {advice_for(name)}", reason="unread-format")


def _open_tiff(stream: BinaryIO, found: Directory, label: str, max_pixels: int) -> Image.Image:
    if found.is_camera_raw:
        raise _unread(label, RAW)
    if found.sub is None and (pages := count_pages(stream)) > 1:
        add_note("picture", f"has {pages} pages; only the first is read")
    readers = readers_of(found)
    if "pillow" in readers:
        is_first = found.page == 0 and found.sub is None
        try:
            return Image.open(stream if is_first else from_directory(stream, found))
        except UnidentifiedImageError:
            pass  # a layout that its table lacks
    if 0 in found.size:
        raise UnidentifiedImageError("no size")
    if "libvips" not in readers:
        raise DataError(
            f"{label}: got a TIFF of {found.kind}, expected supported samples.  "
            "Convert it to 8 or 16 bits of grey or RGB, or leave it out.",
            reason="unread-format",
        )
    check_size(found.size, label, max_pixels)
    return _Deferred(found.size, lambda: read_by_libvips(stream, found))


class _Deferred(Image.Image):
    """An opened TIFF whose samples are decoded on `load`, which replaces its content by the decoded image."""

    def __init__(self, size: tuple[int, int], decode: Callable[[], Image.Image]) -> None:
        super().__init__()
        self.format = "TIFF"
        self._size, self._mode = size, "RGB"
        self._decode = decode

    def load(self) -> Any:
        decoded = self._decode()
        self.__class__ = Image.Image  # type: ignore[assignment]
        self.__dict__ = decoded.__dict__
        return self.load()
