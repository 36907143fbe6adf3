#!/usr/bin/env bash
# torch 2.14.1 (CPU): torch._nnpack_spatial_convolution fails until torch.backends.nnpack.is_available() has been called,
# because the question is what initialises NNPACK. Expected: that the convolution initialises it, as torch.conv2d does.
# Seen as well: with oneDNN on, torch.conv2d never takes NNPACK, which computes a 3 x 3 or 5 x 5 convolution in float32 in
# less than half of the processor time. Seen on 2026-11-29 on an EPYC with AVX-512. Exits with 1 once this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.14.1" "numpy<2"
cat > "$folder/convolution.py" <<'PY'
import sys
import time

import torch

torch.set_num_threads(1)
h, kernel, bias = torch.randn(1, 192, 64, 96), torch.randn(384, 192, 3, 3) / 40, torch.randn(384)


def by_nnpack():
    return torch._nnpack_spatial_convolution(h, kernel, bias, [1, 1])


def seconds(call):
    call()
    found = []
    for _ in range(5):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)


try:
    by_nnpack()
    first = "a result"
except RuntimeError as error:
    first = f"{type(error).__name__}: {error}"
available = torch.backends.nnpack.is_available()
if not available:
    sys.exit("this torch has no NNPACK for this processor: nothing was shown")
with torch.no_grad():
    expected = torch.conv2d(h, kernel, bias, padding=1)
    difference = float((by_nnpack() - expected).norm() / expected.norm())
    ratio = seconds(by_nnpack) / seconds(lambda: torch.conv2d(h, kernel, bias, padding=1))
print(f"before the question: expected a result, got {first}")
print(f"after it: a result that differs from torch.conv2d by {difference:.1e}, in {ratio:.2f} of its processor time")
sys.exit(0 if first.startswith("RuntimeError") and difference < 1e-4 and ratio < 1.0 else 1)
PY
"$folder/venv/bin/python" "$folder/convolution.py"
