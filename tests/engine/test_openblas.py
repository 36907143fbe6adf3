"""The choice of NumPy's matrix kernels."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hfd.engine import openblas
from hfd.engine.openblas import KERNELS, choose_kernels

AVX512 = {"avx2", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that the variable is absent again after the test: on a processor without AVX-512, the value that a
    # test leaves would end the next process that multiplies matrices.
    monkeypatch.setenv(KERNELS, "")
    monkeypatch.delenv(KERNELS)
    monkeypatch.delitem(sys.modules, "numpy", raising=False)


@pytest.mark.parametrize(("flags", "chosen"), [(AVX512, "SkylakeX"), (AVX512 - {"avx512vl"}, None), (set(), None)])
def test_the_flags_decide(monkeypatch: pytest.MonkeyPatch, flags: set[str], chosen: str | None) -> None:
    monkeypatch.setattr(openblas, "cpu_flags", lambda: flags)
    choose_kernels()
    assert os.environ.get(KERNELS) == chosen


def test_a_choice_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openblas, "cpu_flags", lambda: AVX512)
    monkeypatch.setenv(KERNELS, "Haswell")
    choose_kernels()
    assert os.environ[KERNELS] == "Haswell"


def test_it_is_too_late_once_numpy_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openblas, "cpu_flags", lambda: AVX512)
    monkeypatch.setitem(sys.modules, "numpy", os)
    choose_kernels()
    assert KERNELS not in os.environ


@pytest.mark.integration
def test_the_first_use_of_the_library_chooses_before_numpy_is_imported() -> None:
    script = (
        f"import os, hfd.engine.openblas as o; o.cpu_flags = lambda: {AVX512!r}\n"
        "import sys, hfd; assert 'numpy' not in sys.modules; hfd.compress; print(os.environ[o.KERNELS])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "SkylakeX\n"
