"""One-line errors, with a reason, for pictures that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from hfd.errors import DataError

ADVICE = "Leave it out or replace the file."

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG2000_SIGNATURES = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_SIGNATURES = (_PNG_SIGNATURE, *_JPEG2000_SIGNATURES, b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def check_size(size: tuple[int, int], label: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise DataError(
            f"{label}: got {width} x {height} px, expected at most {max_pixels} pixels. "
            "Leave it out or raise max_pixels.",
            reason="too-large",
        )


def not_an_image(label: str, got: str) -> DataError:
    return DataError(f"{label}: got {got}, expected an image. {ADVICE}", reason="not-an-image")


def cut_short(label: str) -> DataError:
    """Return the error of a file that ends too early."""
    return DataError(
        f"{label}: got a cut file, expected a whole image. Fetch it again or leave it out.", reason="truncated"
    )


def broken(label: str, error: Exception) -> DataError:
    """Return the error of a file that a decoder rejects, with the decoder's message."""
    message = f"{label}: got {one_line(error)!r} on decoding, expected a whole image. {ADVICE}"
    return DataError(message, reason="broken")


@contextmanager
def pillow_failures(label: str, stream: BinaryIO) -> Iterator[None]:
    """Convert any error that Pillow raises inside the block to a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            f"{label}: got more than {limit} pixels, expected at most that. Leave it out or crop it.",
            reason="too-large",
        ) from error
    except UnidentifiedImageError as error:
        stream.seek(0)
        head = stream.read(16)
        if not head:
            raise not_an_image(label, "an empty file") from error
        if not _has_signature(head):
            raise not_an_image(label, f"a file that begins with {head[:8]!r}") from error
        message = f"{label}: got a header that is damaged, cut or of an unknown kind, expected a whole image. {ADVICE}"
        raise DataError(message, reason="broken") from error
    # On damaged input Pillow's plugins raise almost any type (KeyError, ZeroDivisionError, EOFError).
    except Exception as error:
        if _is_cut_short(error, stream):
            raise cut_short(label) from error
        raise broken(label, error) from error


def _has_signature(head: bytes) -> bool:
    is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return is_webp or head.startswith(_SIGNATURES) or head[4:12] in (b"ftypavif", b"ftypavis")


def _is_cut_short(error: Exception, stream: BinaryIO) -> bool:
    text = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in text or "but only got" in text:
        return True
    # Two decoders do not state the cause, but JPEG 2000 ends with a marker and WebP states its length.
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(12)
    if head.startswith(_JPEG2000_SIGNATURES):
        return not codestream_ends(stream)
    return head.startswith(b"RIFF") and len(head) == 12 and int.from_bytes(head[4:8], "little") + 8 > length


def codestream_ends(stream: BinaryIO) -> bool:
    """Return True if JPEG 2000 data reach their end marker; OpenJPEG leaves missing tiles black without an error."""
    stream.seek(0)
    data = stream.read()
    return data.find(b"\xff\xd9", data.find(b"\xff\x93")) >= 0


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
