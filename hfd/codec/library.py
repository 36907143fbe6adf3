"""Find models by name or by the file that they made; load and cache them."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hfd.codec.container import MODEL_BYTES, Container
from hfd.errors import BitstreamError, ConfigError, DataError
from hfd.io.model_folders import find_model, named_models, shipped_models
from hfd.io.storage import Folder
from hfd.io.weights import fingerprint_of
from hfd.kinds import EngineKind

if TYPE_CHECKING:
    from hfd.codec.codec import Codec

MAX_LOADED = 4
"""Models kept in memory; the least recently used is dropped first."""

_CONFIG = "autoencoder/config.json"
_FILES = (_CONFIG, "autoencoder/weights.safetensors", "decoder/config.json", "decoder/weights.safetensors")


def find_models(model: str | None) -> list[Folder]:
    """Find the models under a name, sorted by rate: one, or all in the subfolders of a folder.

    ``model``: what :func:`hfd.io.model_folders.find_model` takes, or a folder of models; None: all shipped models.
    Raises :class:`DataError` if there is none, :class:`ConfigError` if none was named and none ships.
    """
    if model is None:
        if not shipped_models():
            raise ConfigError("model: missing, expected --model FOLDER: no model ships with this version")
        return _by_rate(list(shipped_models().values()))
    try:
        return [find_model(model)]
    except DataError:
        several = _subfolders(Folder(model))
        if not several:
            raise
        return _by_rate(several)


def model_that_made(container: Container, model: str | None) -> Folder:
    """Find the model of a file among those under a name; None: the shipped ones, of earlier versions too.

    A single model is returned unchecked: decoding checks it. Raises :class:`BitstreamError` if none made the file.
    """
    folders = list(named_models().values()) if model is None else find_models(model)
    if model is not None and len(folders) == 1:
        return folders[0]
    for folder in folders:
        if bytes.fromhex(_fingerprint(folder, _stamp(folder)))[:MODEL_BYTES] == container.model:
            return folder
    raise BitstreamError(
        f"model: got a file made by {container.model.hex()}, expected one of {model or 'the shipped models'} "
        f"({', '.join(name_of(folder) for folder in folders) or 'none'}). Give the model that made it with --model"
    )


def name_of(folder: Folder) -> str:
    """Return a model's short name, that of its folder."""
    return PurePosixPath(folder.uri.rstrip("/")).name


@contextmanager
def borrowed(folder: Folder, engine: EngineKind = "auto") -> Iterator[Codec]:
    """Yield a loaded model, reserved for this thread until the block ends. It is cached, and reloaded if it changed."""
    key = (folder.uri if not folder.is_local else str(folder.path), engine, _stamp(folder))
    with _lock:
        entry = _loaded.setdefault(key, _Entry())
        _loaded.move_to_end(key)
        while len(_loaded) > MAX_LOADED:
            _loaded.popitem(last=False)
    with entry.lock:
        if entry.codec is None:
            from hfd.codec.codec import Codec  # info about a file needs none of it

            entry.codec = Codec.load(folder, engine=engine)
        yield entry.codec


def forget() -> None:
    """Empty the cache of loaded models."""
    with _lock:
        _loaded.clear()


@dataclass
class _Entry:
    codec: Codec | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_Stamp = tuple[tuple[int, int], ...]
_lock = threading.Lock()
_loaded: OrderedDict[tuple[str, EngineKind, _Stamp], _Entry] = OrderedDict()


def _stamp(folder: Folder) -> _Stamp:
    """Return times and sizes of a model's files; empty for a remote folder, which is assumed not to change."""
    if not folder.is_local:
        return ()
    paths = [folder.path / name for name in _FILES]
    found = [path.stat() for path in paths if path.is_file()]
    return tuple((one.st_mtime_ns, one.st_size) for one in found)


@lru_cache(maxsize=64)
def _fingerprint(folder: Folder, _stamp: _Stamp) -> str:
    return fingerprint_of(folder / "autoencoder")


def _subfolders(folder: Folder) -> list[Folder]:
    if folder.is_local:
        found = sorted(folder.path.glob(f"*/{_CONFIG}")) if folder.path.is_dir() else []
        return [folder / path.parent.parent.name for path in found]
    keys = [entry.key.removesuffix(f"/{_CONFIG}") for entry in folder.files() if entry.key.endswith(f"/{_CONFIG}")]
    return [folder / key for key in keys if "/" not in key]


def _by_rate(folders: Sequence[Folder]) -> list[Folder]:
    return sorted(folders, key=lambda folder: (lmbda_of(folder), folder.uri)) if len(folders) > 1 else list(folders)


def lmbda_of(folder: Folder) -> float:
    """Return a model's rate-distortion weight; the rate rises with it. Raises :class:`DataError`."""
    try:
        config = json.loads(folder.read(_CONFIG))
    except ValueError as error:
        raise DataError(f"{folder.uri}/{_CONFIG}: got no JSON ({error}). Make or fetch the model again") from error
    return positive_lmbda(config, f"{folder.uri}/{_CONFIG}")


def positive_lmbda(config: Mapping[str, Any], name: str) -> float:
    """Return lmbda of an autoencoder's configuration, which messages call ``name``. Raises :class:`DataError`."""
    try:
        lmbda = float(config["lmbda"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{name}: got no lmbda ({error}), expected the weight of the error beside the rate") from error
    if not lmbda > 0.0:
        raise DataError(f"{name}: got lmbda {lmbda}, expected a positive number")
    return lmbda
