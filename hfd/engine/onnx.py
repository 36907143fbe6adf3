"""The networks on a CPU without torch, by ONNX Runtime, from graphs beside the weights (:mod:`hfd.graphs`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from hfd.engine import names
from hfd.engine.base import CELL_PX, HYPER_CELLS, Stage1Reach, Values
from hfd.engine.machine import threads
from hfd.engine.metadata import NOT_INSTALLED, REMEDY, metadata_of, misfit
from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder

_WEIGHTS = "weights.safetensors"

FIRST_REGION = 1 << 27
"""Bytes of address space that the first run reserves; memory is taken for those that it writes."""


class OnnxStage1:
    """:class:`hfd.engine.base.Stage1Networks` of a weights folder.

    ``weights``: the bytes of its ``weights.safetensors``; ``fingerprint``: of the folder, hex; ``threads`` of the
    engine, None: by :func:`hfd.engine.machine.threads`. A graph is loaded at its first use. Raises :class:`DataError`
    for a graph that is absent, unreadable or of other weights, and :class:`ConfigError` without ONNX Runtime.
    """

    def __init__(self, folder: Folder, weights: bytes, fingerprint: str, *, threads: int | None = None) -> None:
        self._load = functools.partial(_Graph, folder, weights, fingerprint, threads)

    @property
    def reach(self) -> Stage1Reach:
        facts = self._analysis if "_analysis" in vars(self) else self._synthesis
        return Stage1Reach(
            facts.whole("analysis_px"), facts.whole("hyper_analysis_cells"), facts.whole("synthesis_cells")
        )

    def analysis(self, x: Values) -> Values:
        return self._analysis({names.X: x}, (x.shape[2] // CELL_PX, x.shape[3] // CELL_PX))

    def hyper_analysis(self, y: Values) -> Values:
        return self._hyper_analysis({names.Y: y}, (y.shape[2] // HYPER_CELLS, y.shape[3] // HYPER_CELLS))

    def synthesis(self, y_hat: Values) -> Values:
        return self._synthesis({names.Y_HAT: y_hat}, (y_hat.shape[2] * CELL_PX, y_hat.shape[3] * CELL_PX))

    @cached_property
    def _analysis(self) -> _Graph:
        return self._load(names.ANALYSIS)

    @cached_property
    def _hyper_analysis(self) -> _Graph:
        return self._load(names.HYPER_ANALYSIS)

    @cached_property
    def _synthesis(self) -> _Graph:
        return self._load(names.SYNTHESIS)


class OnnxStage2:
    """:class:`hfd.engine.base.Stage2Network` of a weights folder, as :class:`OnnxStage1`."""

    def __init__(self, folder: Folder, weights: bytes, fingerprint: str, *, threads: int | None = None) -> None:
        self._load = functools.partial(_Graph, folder, weights, fingerprint, threads)
        self._sees_known = folder.exists(names.NETWORK_KNOWN)

    @property
    def stride(self) -> int:
        return self._network.whole("stride")

    @property
    def receptive_field_px(self) -> int:
        return self._network.whole("receptive_field_px")

    def __call__(self, x_in: Values, x_hat: Values, noise_level: Values, known: Values | None = None) -> Values:
        values = {names.X_IN: x_in, names.X_HAT: x_hat, names.NOISE_LEVEL: noise_level}
        sides = (x_in.shape[2], x_in.shape[3])
        if known is None or not self._sees_known:
            return self._network(values, sides)
        return self._network_known(values | {names.KNOWN: known}, sides)

    @cached_property
    def _network(self) -> _Graph:
        return self._load(names.NETWORK)

    @cached_property
    def _network_known(self) -> _Graph:
        return self._load(names.NETWORK_KNOWN)


class _Graph:
    """One graph, checked against its weights, and its session from the first call on."""

    def __init__(self, folder: Folder, weights: bytes, fingerprint: str, threads: int | None, name: str) -> None:
        self._where = f"{folder.uri}/{name}"
        if not folder.exists(name):
            raise DataError(f"{self._where}: got no graph, expected one for the engine onnx. {REMEDY}")
        self._graph, self._weights, self._threads = folder.read(name), weights, threads
        self._facts = metadata_of(self._graph, self._where)
        if (reason := misfit(self._facts, fingerprint)) is not None:
            raise DataError(f"{self._where}: {reason}. {REMEDY}")

    def whole(self, key: str) -> int:
        """Return an entry of the metadata that is a whole number, at least 0."""
        value = self._facts.get(key, "")
        if not value.isdecimal() or len(value) > 9:
            raise DataError(f"{self._where}: {key}: got {value!r}, expected a whole number. {REMEDY}")
        return int(value)

    def __call__(self, inputs: Mapping[str, Values], sides: tuple[int, int]) -> Values:
        """Run the graph; return its output, of height and width ``sides``."""
        feeds = {name: np.ascontiguousarray(value, np.float32) for name, value in inputs.items()}
        session = self._session
        try:
            (output,) = session.run(None, feeds)
        except Exception as error:  # the engine's errors have no common base class
            if "allocate memory" in str(error):
                raise MemoryError(_first_line(error)) from error
            raise DataError(f"{self._where}: does not run ({_first_line(error)}). {REMEDY}") from error
        if output.shape[2:] != sides or output.dtype != np.float32:
            raise DataError(f"{self._where}: got an output of {output.shape}, expected sides of {sides}. {REMEDY}")
        values: Values = output
        return values

    @cached_property
    def _session(self) -> Any:
        try:
            return open_session(self._graph, self._weights, self._threads)
        except ConfigError:
            raise
        except Exception as error:
            raise DataError(f"{self._where}: does not fit its weights ({_first_line(error)}). {REMEDY}") from error


def open_session(graph: bytes, weights: bytes, num_threads: int | None = None) -> Any:
    """Open a session of a graph, whose external data are ``weights``, the bytes of ``weights.safetensors``.

    ``num_threads``: None: by :func:`hfd.engine.machine.threads`. Raises :class:`ConfigError` without ONNX Runtime, and
    the engine's own errors, which have no common base class.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads or threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions
    options.enable_mem_pattern = False  # would plan a second arena for each size
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # External data is read from memory only, never from another file.
    options.add_external_initializers_from_files_in_memory([_WEIGHTS], [weights], [len(weights)])
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@functools.cache
def _runtime() -> Any:
    """Import ONNX Runtime, with one arena for all graphs of the process, which run one after another and reuse its
    memory.

    Its regions double, from :data:`FIRST_REGION` on. Regions of the requested sizes are for one value each, where
    larger values find no place later: large pictures would need half as much memory again.
    """
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise ConfigError(NOT_INSTALLED) from error
    runtime.disable_telemetry_events()
    memory = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    growth = {"arena_extend_strategy": 0, "initial_chunk_size_bytes": FIRST_REGION}
    runtime.create_and_register_allocator(memory, runtime.OrtArenaCfg(growth))
    return runtime


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
