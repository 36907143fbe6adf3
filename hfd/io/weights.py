"""Weights on disk: ``config.json`` beside ``weights.safetensors``. Nothing is unpickled. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hfd.errors import DataError
from hfd.io.storage import Folder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = 1
WEIGHTS = "weights.safetensors"

Stored = TypeVar("Stored")


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """A weights folder as bytes: ``config``, ``data`` of the safetensors file, and ``fingerprint``, SHA-256 hex over
    both files; ``where``: its name."""

    config: dict[str, Any]
    data: bytes
    fingerprint: str
    where: str

    def parsed(self, parse: Callable[[bytes], dict[str, Stored]]) -> dict[str, Stored]:
        """The tensors by name, by a function of the file's bytes. Raises :class:`DataError`."""
        from safetensors import SafetensorError  # a fingerprint needs none of it

        try:
            return parse(self.data)
        except (ValueError, KeyError, SafetensorError) as error:
            raise DataError(f"{self.where}: not readable weights ({error}). Make or fetch the model again") from error

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        from safetensors.numpy import load

        return self.parsed(load)


def read_stored(folder: Folder) -> StoredWeights:
    """Read a weights folder. Raises :class:`DataError` for a configuration that is not readable."""
    config_bytes, data = folder.read("config.json"), folder.read(WEIGHTS)
    try:
        config = json.loads(config_bytes)
    except ValueError as error:
        raise DataError(f"{folder.uri}: not readable weights ({error}). Make or fetch the model again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        got = config.get("format") if isinstance(config, dict) else config
        raise DataError(
            f"{folder.uri}/config.json: got format {got!r}, expected {FORMAT}. It was made by another version"
        )
    return StoredWeights(config, data, _fingerprint(config_bytes, data), folder.uri)


def fingerprint_of(folder: Folder) -> str:
    """Compute the SHA-256 (hex) over both files of a weights folder."""
    return _fingerprint(folder.read("config.json"), folder.read(WEIGHTS))


def _fingerprint(config_bytes: bytes, weights_bytes: bytes) -> str:
    digest = hashlib.sha256(config_bytes)
    digest.update(weights_bytes)
    return digest.hexdigest()
