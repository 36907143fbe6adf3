"""ICC matrix profiles of colours that a file states by numbers (ITU-T H.273, PNG's gAMA and cHRM)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Matrix: TypeAlias = npt.NDArray[np.float64]

_D65, _C, _DCI, _EQUAL = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351), (1 / 3, 1 / 3)
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True)
class Primaries:
    """CIE 1931 xy of white, red, green and blue."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Transfer from a value v to linear light: (a v + b)^g for v >= ``d``, and c v + f below."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    f: float = 0.0

    def of_narrow_range(self) -> Curve:
        """Return the curve for values with black at 16/255 and white at 235/255."""
        scale, shift = 255 / 219, -16 / 219
        d = (self.d - shift) / scale
        return Curve(self.g, self.a * scale, self.a * shift + self.b, self.c * scale, d, self.c * shift + self.f)


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT1886_CURVE = Curve(2.4)
"""Display transfer function for BT.709 and BT.2020 (ITU-R BT.1886, black of 0)."""

BT709 = Primaries(_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_BT601 = Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))

PRIMARIES: Mapping[int, Primaries] = {
    1: BT709,
    4: Primaries(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: _BT601,
    7: _BT601,
    8: Primaries(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    10: Primaries(_EQUAL, (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)),
    11: Primaries(_DCI, *_P3),
    12: Primaries(_D65, *_P3),
    22: Primaries(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
"""ITU-T H.273, table 2."""

CURVES: Mapping[int, Curve] = {
    1: BT1886_CURVE,
    4: Curve(2.2),
    5: Curve(2.8),
    6: BT1886_CURVE,
    8: Curve(1.0),
    13: SRGB_CURVE,
    14: BT1886_CURVE,
    15: BT1886_CURVE,
    17: Curve(2.6, a=(52.37 / 48) ** (1 / 2.6)),
}
"""ITU-T H.273, table 3, without PQ (16), HLG (18), and curves that are not used for still pictures."""

VIDEO_CURVES = frozenset({1, 6, 14, 15})
HDR_CURVES: Mapping[int, str] = {16: "PQ", 18: "HLG"}
UNSPECIFIED = 2


def rgb_profile(primaries: Primaries, curve: Curve) -> bytes | None:
    """Return an ICC profile of RGB; None if the primaries span no colours."""
    adapted = _adapted(primaries)
    if adapted is None:
        return None
    matrix, chad = adapted
    trc = _curve_tag(curve)
    columns = {name: _xyz(matrix[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags = {b"rTRC": trc, b"gTRC": trc, b"bTRC": trc, **columns, b"chad": b"sf32" + bytes(4) + _fixed(*chad.ravel())}
    return _profile(b"RGB ", tags)


def grey_profile(curve: Curve) -> bytes:
    """Return an ICC profile of grey."""
    return _profile(b"GRAY", {b"kTRC": _curve_tag(curve)})


def _adapted(primaries: Primaries) -> tuple[_Matrix, _Matrix] | None:
    """Return the XYZ of the primaries, in columns, adapted to D50, and the adaptation matrix (Bradford)."""
    corners = np.array([primaries.red, primaries.green, primaries.blue, primaries.white])
    xyz = np.column_stack([corners, 1.0 - corners.sum(axis=1)]).T
    if not np.isfinite(xyz).all() or xyz[1, 3] < 1e-3 or abs(np.linalg.det(xyz[:, :3])) < 1e-4:
        return None
    white = xyz[:, 3] / xyz[1, 3]
    cones = _BRADFORD @ white
    if (white < 0.0).any() or (np.abs(cones) < 1e-3).any():
        return None
    chad = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / cones) @ _BRADFORD
    matrix = chad @ xyz[:, :3] * np.linalg.solve(xyz[:, :3], white)
    return (matrix, chad) if np.abs(matrix).max() < 100.0 and np.abs(chad).max() < 100.0 else None


def _profile(space: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """Build an ICC.1:2010 display profile (sections 7.2 and 7.3); equal tags share their bytes."""
    text = {b"desc": _text("Colours stated by the file"), b"cprt": _text("None"), b"wtpt": _xyz(_D50)}
    tags = {**text, **tags}
    offset, at = 128 + 4 + 12 * len(tags), dict[bytes, int]()
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        if body not in at:
            at[body] = offset + len(bodies)
            bodies += body + bytes(-len(body) % 4)
        table += name + struct.pack(">II", at[body], len(body))
    head = struct.pack(">I4sI4s4s4s", offset + len(bodies), bytes(4), 0x04300000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50)
    return head.ljust(128, b"\0") + table + bodies


def _curve_tag(curve: Curve) -> bytes:
    values = (curve.g, curve.a, curve.b, curve.c, curve.d, 0.0, curve.f)
    return b"para" + bytes(4) + struct.pack(">HH", 4, 0) + _fixed(*values)


def _xyz(values: _Matrix) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _text(words: str) -> bytes:
    return (
        b"mluc"
        + bytes(4)
        + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2 * len(words), 28)
        + words.encode("utf-16-be")
    )


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
