#!/usr/bin/env bash
# Pillow 13.0.0: a little-endian 16-bit grey TIFF with PhotometricInterpretation 0 (WhiteIsZero) gives the stored samples
# in mode I;16, as with interpretation 1, so that every reader of the samples shows a negative; at 8 bits Pillow inverts.
# The big-endian one is not identified at all. Expected (TIFF 6.0, tag 262): 0 is white at any depth, as libvips 8.18
# reads it. Seen on 2026-11-28. Exits with 1 once this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==1.26.4 'pyvips[binary]==3.1.1'
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import sys

import numpy as np
import pyvips
from PIL import Image


def tiff(tags, data, order="<"):
    """A baseline TIFF of (tag, type, values) entries; the pixel data begins at byte 8."""
    entries, extra, at = b"", b"", 8 + len(data)
    for tag, kind, values in sorted(tags):
        packed = b"".join(struct.pack(order + ("I" if kind == 4 else "H"), value) for value in values)
        if len(packed) > 4:
            packed, extra = struct.pack(order + "I", at + len(extra)), extra + packed
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at + len(extra))
    return start + data + extra + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def by_libvips(data):
    return pyvips.Image.new_from_buffer(data, "").numpy()


height, width = 16, 32
ramp = np.tile(np.linspace(2000, 60000, width).astype(np.uint16), (height, 1))


def white_is_zero(samples, order):
    bits = samples.dtype.itemsize * 8
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits]), (259, 3, [1]), (262, 3, [0]), (273, 4, [8])]
    return tiff([*tags, (277, 3, [1]), (278, 4, [height]), (279, 4, [samples.nbytes])], samples.tobytes(), order)


def by_pillow(data):
    try:
        return np.asarray(Image.open(io.BytesIO(data)))
    except OSError as error:
        return type(error).__name__


eight, little = white_is_zero((ramp >> 8).astype(np.uint8), "<"), white_is_zero(ramp.astype("<u2"), "<")
big = white_is_zero(ramp.astype(">u2"), ">")
print("8 bits, inverted by Pillow:", np.array_equal(by_pillow(eight), 255 - (ramp >> 8)))
print("16 bits little-endian, inverted by libvips:", np.array_equal(by_libvips(little), 65535 - ramp))
print("16 bits little-endian, by Pillow as stored:", np.array_equal(by_pillow(little), ramp))
print("16 bits big-endian, by Pillow:", by_pillow(big))
same = np.array_equal(by_pillow(eight), 255 - (ramp >> 8)) and np.array_equal(by_pillow(little), ramp)
sys.exit(not (same and isinstance(by_pillow(big), str)))
PY
