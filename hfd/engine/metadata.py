"""Read a graph's metadata from its file without an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hfd.errors import DataError

FORMAT = "1"
"""Version of the graphs' names of files, inputs, outputs and metadata."""

REMEDY = "Write the graphs again with hfd export MODEL MODEL --onnx, or use --engine torch"

NOT_INSTALLED = "engine: got onnx, but onnxruntime is not installed. pip install onnxruntime, or use --engine torch"

_METADATA = 14
"""Field of ``ModelProto`` (onnx.proto) with ``StringStringEntryProto``: the key is its field 1, the value field 2."""


def metadata_of(graph: bytes, where: str) -> Mapping[str, str]:
    """Return the metadata of a serialised ONNX model. Raises :class:`DataError` for other bytes."""
    found = {}
    try:
        for number, value in _fields(memoryview(graph)):
            if number == _METADATA:
                entry = dict(_fields(value))
                found[str(entry[1], "utf-8")] = str(entry[2], "utf-8")
    except (IndexError, KeyError, ValueError) as error:
        raise DataError(f"{where}: got no readable graph, expected ONNX. {REMEDY}") from error
    return found


def misfit(facts: Mapping[str, str], fingerprint: str) -> str | None:
    """Return the reason why a graph with this metadata does not belong to the weights ``fingerprint``, or None."""
    if facts.get("format") != FORMAT:
        return f"got format {facts.get('format')!r}, expected {FORMAT!r}"
    if facts.get("weights") != fingerprint:
        return f"got a graph of the weights {facts.get('weights', '')[:8]}, expected {fingerprint[:8]}"
    return None


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (number, bytes) of the fields of a protobuf message, without numeric fields, which are not needed."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise ValueError("a field ends after the file")
                yield tag >> 3, message[at : at + length]
                at += length
            case kind:
                raise ValueError(f"wire type {kind}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
