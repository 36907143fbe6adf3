"""Loading of a model's folder for an engine: both stages and the numbers of entropy coding. No torch of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args

from hfd.autoencoder.entropy_model import EntropyModel, entropy_model_of
from hfd.diffusion.decoder import ScoreDecoder, process_of
from hfd.engine import names
from hfd.engine.base import Stage1Networks
from hfd.engine.machine import is_installed
from hfd.engine.metadata import NOT_INSTALLED, metadata_of, misfit
from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from hfd.io.weights import fingerprint_of, read_stored
from hfd.kinds import EngineKind

_STAGE1_GRAPHS = (names.ANALYSIS, names.HYPER_ANALYSIS, names.SYNTHESIS)
_STAGE2_GRAPHS = (names.NETWORK,)


class Stage1(Protocol):
    """An autoencoder by any engine; ``fingerprint``: of its weights, hex."""

    @property
    def networks(self) -> Stage1Networks: ...

    @property
    def entropy(self) -> EntropyModel: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False)
class OnnxAutoencoder:
    """An autoencoder by ONNX Runtime: :class:`Stage1`. ``folder``: its weights and graphs."""

    networks: Stage1Networks
    entropy: EntropyModel
    config: Mapping[str, Any]
    fingerprint: str
    folder: Folder


def load_model(folder: Folder, device: str, engine: EngineKind) -> tuple[Stage1, ScoreDecoder | None]:
    """Load both stages of a model folder.

    ``engine`` auto: ONNX Runtime on the CPU where it is installed and the folder has graphs of its weights; torch
    otherwise. Raises :class:`DataError` that names the fault of a folder, :class:`ConfigError` for an engine that is
    not installed, or has no such device.
    """
    use_onnx = chosen_engine(folder, device, engine) == "onnx"
    stage1, decoder = _by_onnx(folder) if use_onnx else _by_torch(folder, device)
    if decoder is not None and decoder.config.get("autoencoder") != stage1.fingerprint:
        raise DataError(f"{folder.uri}: its decoder was trained on another autoencoder. Make or fetch the model again")
    return stage1, decoder


def engine_named(name: str) -> EngineKind:
    """The engine of a user's choice. Raises :class:`ConfigError` for one that is unknown or not installed."""
    for kind in get_args(EngineKind):
        if kind == name:
            check_engine(kind)
            return cast(EngineKind, kind)
    raise ConfigError(f"engine: got {name!r}, expected one of {', '.join(get_args(EngineKind))}")


def check_engine(engine: EngineKind, device: str = "cpu") -> None:
    """Raise :class:`ConfigError` for an engine that is not installed or not for this device."""
    if engine == "onnx" and device != "cpu":
        raise ConfigError(f"engine: got onnx on {device}, expected it on the CPU alone. Use --engine torch")
    if engine == "onnx" and not is_installed("onnxruntime"):
        raise ConfigError(NOT_INSTALLED)
    if engine == "torch" and not is_installed("torch"):
        raise ConfigError("engine: got torch, but it is not installed. pip install torch, or use --engine onnx")


def chosen_engine(folder: Folder, device: str, engine: EngineKind = "auto") -> Literal["onnx", "torch"]:
    """The engine that :func:`load_model` takes for a model folder here."""
    check_engine(engine, device)
    if engine != "auto":
        return engine
    if device != "cpu" or not is_installed("onnxruntime"):
        check_engine("torch")
        return "torch"
    if not is_installed("torch"):
        return "onnx"  # where graphs are missing, its errors say so
    return "onnx" if _has_graphs(folder) else "torch"


def _has_graphs(folder: Folder) -> bool:
    """True if all graphs are there, of these weights and of a format that is known."""
    parts = [("autoencoder", _STAGE1_GRAPHS), ("decoder", _STAGE2_GRAPHS)]
    return all(_fit(folder / part, graphs) for part, graphs in parts if folder.exists(f"{part}/config.json"))


def _fit(folder: Folder, graphs: tuple[str, ...]) -> bool:
    if not all(folder.exists(name) for name in graphs):
        return False
    try:
        facts = [metadata_of(folder.read(name), name) for name in graphs]
    except DataError:
        return False
    fingerprint = fingerprint_of(folder)
    return all(misfit(one, fingerprint) is None for one in facts)


def _by_torch(folder: Folder, device: str) -> tuple[Stage1, ScoreDecoder | None]:
    from hfd.autoencoder.weights import read_autoencoder
    from hfd.diffusion.weights import read_decoder

    stage1 = read_autoencoder(folder / "autoencoder")
    if not folder.exists("decoder/config.json"):
        return stage1, None
    return stage1, read_decoder(folder / "decoder", device)


def _by_onnx(folder: Folder) -> tuple[Stage1, ScoreDecoder | None]:
    from hfd.engine.onnx import OnnxStage1, OnnxStage2

    place = folder / "autoencoder"
    stored = read_stored(place)
    networks = OnnxStage1(place, stored.data, stored.fingerprint)
    stage1 = OnnxAutoencoder(networks, entropy_model_of(stored), stored.config, stored.fingerprint, place)
    if not folder.exists("decoder/config.json"):
        return stage1, None
    place = folder / "decoder"
    stored = read_stored(place)
    network = OnnxStage2(place, stored.data, stored.fingerprint)
    return stage1, ScoreDecoder(network, process_of(stored.config, place.uri), stored.config, stored.fingerprint)
