#!/usr/bin/env bash
# NumPy 1.26.4 multiplies float64 matrices with the kernels of a processor of 2004 on Intel's fifth generation of Xeon.
#
# Seen on 2026-11-29 with numpy 1.26.4 (OpenBLAS 0.3.23.dev in its Linux x86-64 wheel) on a Xeon of family 6, model 207.
# Expected: an OpenBLAS that is too old to know a model of processor chooses kernels by its flags (AVX-512, AVX2).
# Seen: it chooses "Prescott" (SSE3). With OPENBLAS_CORETYPE=SkylakeX the same products take a fifth of the time or less.
# Needs such a processor; ends with 2 elsewhere.
set -euo pipefail
if ! awk '/^cpu family/ {f = $NF} /^model\t/ {m = $NF} END {exit !(f == 6 && m == 207)}' /proc/cpuinfo; then
    echo "needs an Intel processor of family 6, model 207; this is another one"
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==1.26.4 threadpoolctl==3.6.0
cat > "$folder/products.py" <<'PY'
import time

import numpy as np
from threadpoolctl import threadpool_info

a, b = np.ones((1024, 1024)), np.ones((1024, 1024))
a @ b
times = []
for _ in range(7):
    started = time.process_time()
    a @ b
    times.append(time.process_time() - started)
(library,) = [found for found in threadpool_info() if found["internal_api"] == "openblas"]
print(library["version"], library["architecture"], f"{min(times):.4f}")
PY
export OPENBLAS_NUM_THREADS=1
read -r version chosen slow < <("$folder/venv/bin/python" "$folder/products.py")
read -r _ told fast < <(OPENBLAS_CORETYPE=SkylakeX "$folder/venv/bin/python" "$folder/products.py")
echo "OpenBLAS $version chose $chosen: $slow s a product; with OPENBLAS_CORETYPE=SkylakeX ($told): $fast s"
if [ "$chosen" = Prescott ] && awk "BEGIN {exit !($slow > 3 * $fast)}"; then
    echo "as stated: the processor is not recognised, and its AVX-512 is not used"
else
    echo "changed"
    exit 1
fi
