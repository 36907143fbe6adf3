#!/usr/bin/env bash
# safetensors 0.8.0, numpy 1.26.4: safetensors.numpy.save stores the memory of an array that is not C-contiguous (a
# transposed, Fortran-ordered or sliced one) in the order of memory under the array's shape, so that other values come
# back, without an error. Expected: equal values, or an error as for torch tensors. Version 0.7.0 returns equal values.
# Seen on 2026-11-28. Exits with 1 once this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
run() {
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "safetensors==$1" numpy==1.26.4
  "$folder/venv/bin/python" - "$1" "$2" <<'PY'
import sys

import numpy as np
import safetensors.numpy as st

base = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {"contiguous": base, "transposed": base.T, "fortran": np.asfortranarray(base), "sliced": base[:, ::2]}
equal = {name: bool(np.array_equal(st.load(st.save({"x": x}))["x"], x)) for name, x in arrays.items()}
print(f"safetensors {sys.argv[1]}: values that come back equal: {equal}")
wrong = sorted(name for name, same in equal.items() if not same)
sys.exit(wrong != sys.argv[2].split())
PY
}
run 0.7.0 ""
run 0.8.0 "fortran sliced transposed"
