"""Memory: running out is a one-line error, and free memory returns to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from hfd.codec import memory
from hfd.codec.memory import enough_memory, give_back
from hfd.errors import DataError

pytestmark = pytest.mark.integration

KEEPS_AND_GIVES_BACK = """
import numpy as np, psutil
from hfd.codec.memory import give_back
resident = lambda: psutil.Process().memory_info().rss / 2**20
large, small = [], []
for _ in range(2000):
    large.append(np.ones(100_000, np.uint8))
    small.append(np.ones(2000, np.uint8))
full = resident()
large.clear()
kept = resident()
give_back()
print(full - kept, full - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves")
def test_free_memory_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", KEEPS_AND_GIVES_BACK], capture_output=True, text=True, check=True)
    by_itself, asked = map(float, done.stdout.split())
    assert by_itself < 50 < 150 < asked


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    memory.malloc_trim.cache_clear()
    monkeypatch.setattr("hfd.codec.memory.ctypes.CDLL", lambda _: object())
    give_back()
    memory.malloc_trim.cache_clear()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried")]
)
def test_running_out_of_memory_is_one_line(error: Exception) -> None:
    with pytest.raises(DataError, match=r"^memory: got less than the picture needs") as caught, enough_memory():
        raise error
    assert caught.value.reason == "memory"


def test_other_errors_stay() -> None:
    with pytest.raises(RuntimeError, match=r"^a bug$"), enough_memory():
        raise RuntimeError("a bug")
