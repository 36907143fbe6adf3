#!/usr/bin/env bash
# Pillow 13.0.0: an uncompressed TIFF with PlanarConfiguration 2 and 16 bits a sample opens as RGB, and each two bytes of
# one sample become two pixels: the picture shows its left half at double width in stripes, without an error. Expected
# (TIFF 6.0, tag 284): the samples, as libvips 8.18 reads them, or an error. Seen on 2026-11-28. Exits with 1 once this
# changes.
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


height, width = 32, 48
ramp = np.tile(np.linspace(20, 220, width).astype("<u2") * 257, (height, 1))
planes = np.stack([ramp, ramp[:, ::-1], ramp // 2]).astype("<u2")
size = height * width * 2
tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [16] * 3), (259, 3, [1]), (262, 3, [2]), (277, 3, [3])]
tags += [(273, 4, [8, 8 + size, 8 + 2 * size]), (278, 4, [height]), (279, 4, [size] * 3), (284, 3, [2])]
data = tiff(tags, planes.tobytes())

true = np.moveaxis(planes, 0, -1) >> 8
seen = np.asarray(Image.open(io.BytesIO(data)))
print("first row, every 16th pixel, in the file:", true[0, ::16].tolist())
print("by libvips:                              ", (by_libvips(data) >> 8)[0, ::16].tolist())
print("by Pillow:                               ", seen[0, ::16].tolist())
striped = np.array_equal(seen[0, 1::2], true[0, : width // 2])  # the high byte of each sample
sys.exit(not (np.array_equal(by_libvips(data) >> 8, true) and striped))
PY
