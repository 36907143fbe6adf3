"""Errors that a user can cause. Each prints as one line, with its exit code."""

from __future__ import annotations

_BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str, keep: str = "") -> str:
    """Make text safe for a terminal: escape line breaks, escape sequences and bytes that are not UTF-8.

    The result can be encoded in UTF-8. ``keep``: control characters to leave.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if character in keep else _shown(character) for character in text)


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name, by PEP 383
        return f"\\x{code - 0xDC00:02x}"
    hidden = code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code <= 0xDFFF or character in "\u2028\u2029" + _BIDI
    return character.encode("unicode_escape").decode() if hidden else character


class HfdError(Exception):
    """Base of errors that are not bugs.

    The message reads ``<key or file>: got <value>, expected <allowed>. <what to do>``.
    """

    exit_code = 2
    """Exit code of the command line."""

    kept = "\n"
    """Control characters of messages: some list several mistakes, one on each line."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(str(message), self.kept))


class ConfigError(HfdError):
    """A preset, an override or a combination of settings that cannot work."""


class DataError(HfdError):
    """An image, a folder or a shard that cannot be used.

    ``reason`` is a short stable word for the rejects table (``"truncated"``, ``"too-small"``, ...).
    """

    kept = ""

    def __init__(self, message: str, *, reason: str = "unusable") -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_outage(self) -> bool:
        """True for a failed server or a full disk, which stop the work: the current picture is not the cause."""
        return self.reason in ("connection", "io", "disk-full")


class BitstreamError(HfdError):
    """A ``.hfd`` file that is foreign, truncated, damaged or made by another model."""

    kept = ""


class DecodeMismatchError(BitstreamError):
    """The decoded symbols do not match the encoder's checksum: the picture would be wrong."""


class BatchError(HfdError):
    """Some files of several failed; each failure was reported and the other files were processed."""

    exit_code = 1


class TrainingError(HfdError):
    """Training cannot continue (a NaN loss, a checkpoint of another configuration)."""


class PictureWarning(UserWarning):
    """A part of a picture's file was left out; the picture was read (:class:`hfd.image.notes.Note`)."""
