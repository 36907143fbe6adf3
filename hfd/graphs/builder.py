"""Build an ONNX graph with weights as external data in a safetensors file."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hfd.errors import DataError

OPSET = 17
IR_VERSION = 8
"""Versions of 2022, which ONNX Runtime since 1.12 and all current engines read."""

WEIGHTS = "weights.safetensors"
_DTYPES = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT}


@dataclass(frozen=True)
class StoredTensor:
    """Place of a tensor in a safetensors file: bytes ``offset`` to ``offset + length``. ``dtype``: F16, F32, ..."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True)
class Value:
    """An input or output of a graph, float32. ``dims``: numbers, or names of variable sizes."""

    name: str
    dims: tuple[int | str, ...]
    doc: str


def stored_tensors(weights: bytes) -> dict[str, StoredTensor]:
    """Find the tensors in the bytes of a safetensors file.

    Format: a little-endian ``u64``, the length of a JSON header, then the header and the data.
    """
    (length,) = struct.unpack_from("<Q", weights)
    header = json.loads(weights[8 : 8 + length])
    start = 8 + length
    return {
        name: StoredTensor(entry["dtype"], tuple(entry["shape"]), start + first, last - first)
        for name, entry in header.items()
        if name != "__metadata__"
        for first, last in [entry["data_offsets"]]
    }


class GraphBuilder:
    """Collects nodes; values are referred to by name. Weights are float32 in the graph, for any stored type."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self._stored = stored
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._weights: dict[str, str] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, name: str) -> str:
        """Add a stored tensor as float32; return its name."""
        if name not in self._weights:
            self._weights[name] = self._external(name)
        return self._weights[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a stored tensor."""
        return self._place(name).shape

    def constant(self, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """Add a small constant, stored in the graph itself."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = f"constant_{len(self._constants)}"
            self._initializers[name] = numpy_helper.from_array(array, name)
        return self._constants[key]

    def whole(self, *values: int) -> str:
        """Add a constant vector of int64, for shapes and axes."""
        return self.constant(values, np.int64)

    def model(
        self, name: str, inputs: Sequence[Value], output: Value, result: str, *, doc: str, metadata: Mapping[str, str]
    ) -> bytes:
        """Return the serialised model. ``result``: the value that becomes ``output``."""
        nodes = [*self._nodes, helper.make_node("Identity", [result], [output.name], name=output.name)]
        graph = helper.make_graph(
            nodes, name, [_info(value) for value in inputs], [_info(output)], list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="hfd",
            doc_string=doc,
        )
        helper.set_model_props(model, dict(metadata))
        serialised: bytes = model.SerializeToString(deterministic=True)
        return serialised

    def _external(self, name: str) -> str:
        place = self._place(name)
        if place.dtype not in _DTYPES:
            raise DataError(f"{name}: got {place.dtype}, expected one of {', '.join(_DTYPES)}. Make the model again")
        tensor = TensorProto(name=name, data_type=_DTYPES[place.dtype], dims=place.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", place.offset), ("length", place.length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
        return name if place.dtype == "F32" else self.op("Cast", name, to=TensorProto.FLOAT)

    def _place(self, name: str) -> StoredTensor:
        if name not in self._stored:
            raise DataError(f"{name}: got no such weights, expected them for this network. Make the model again")
        return self._stored[name]


def _info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, list(value.dims), doc_string=value.doc)
