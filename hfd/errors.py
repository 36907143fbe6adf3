"""Errors that a user can cause. Each prints as one line, with its exit code."""

from __future__ import annotations


class HfdError(Exception):
    """Base of errors that are not bugs.

    The message reads ``<key or file>: got <value>, expected <allowed>. <what to do>``.
    """

    exit_code = 2
    """Of the command line."""


class ConfigError(HfdError):
    """A preset, an override or a combination of settings that cannot work."""


class DataError(HfdError):
    """An image, a folder or a shard that cannot be used.

    ``reason`` is a short stable word for the rejects table (``"truncated"``, ``"too-small"``, ...).
    """

    def __init__(self, message: str, *, reason: str = "unusable") -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_outage(self) -> bool:
        """True for a failed server or a full disk, which stop the work: the picture at hand is not to blame."""
        return self.reason in ("connection", "io", "disk-full")


class BitstreamError(HfdError):
    """A ``.hfd`` file that is foreign, truncated, damaged or made by another model."""


class DecodeMismatchError(BitstreamError):
    """The decoded symbols do not match the checksum the encoder wrote: the picture would be wrong."""


class BatchError(HfdError):
    """Some files of several failed; each failure was reported and the other files were processed."""

    exit_code = 1


class TrainingError(HfdError):
    """Training cannot go on (a NaN loss, a checkpoint of another configuration)."""
