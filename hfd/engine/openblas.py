"""Choose NumPy's matrix kernels on processors that its OpenBLAS is too old to know.

OpenBLAS recognises processors by their model. One that is newer than the release inside NumPy's wheel gets the kernels
of a processor of 2004, with a sixth of the speed in float64: NumPy 1.26.4 with OpenBLAS 0.3.23 on Intel's fifth
generation of Xeon, for one. What such a processor can do is known from its flags.
"""

from __future__ import annotations

import os
import sys

from hfd.precision import cpu_flags

KERNELS = "OPENBLAS_CORETYPE"
_AVX512 = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})


def choose_kernels() -> None:
    """Set ``OPENBLAS_CORETYPE`` for this process and those that it starts, where the processor has AVX-512.

    Does nothing if the variable is set, or if NumPy has been imported: OpenBLAS reads the variable when it is loaded.
    Integers in float64 are exact with any kernel, so that files and symbols stay the same.
    """
    if KERNELS not in os.environ and "numpy" not in sys.modules and cpu_flags() >= _AVX512:
        os.environ[KERNELS] = "SkylakeX"
