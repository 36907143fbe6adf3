#!/usr/bin/env bash
# Pillow 13.0.0: a 32-bit TGA whose image descriptor states 0 attribute bits opens as RGBA with its padding byte as alpha,
# so that a program that keeps alpha makes the whole picture transparent. Expected (Truevision TGA 2.0, field 5.6: the low
# four bits count the attribute bits of a pixel): an opaque RGB picture. Seen on 2026-11-28. Exits with 1 once this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==1.26.4
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import sys

import numpy as np
from PIL import Image

height, width, top_left = 16, 24, 32
bgra = np.full((height, width, 4), (30, 120, 200, 0), np.uint8)


def modes(attribute_bits):
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 32, top_left | attribute_bits)
    picture = Image.open(io.BytesIO(header + bgra.tobytes()))
    return picture.mode, np.asarray(picture)[0, 0].tolist()


print("0 attribute bits:", modes(0), "8 attribute bits:", modes(8))
sys.exit(modes(0) != modes(8) or modes(0)[0] != "RGBA")
PY
