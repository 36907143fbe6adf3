"""Choice of bfloat16 by device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hfd import precision
from hfd.precision import autocast, native_bfloat16

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh_answer() -> Iterator[None]:
    """Clear the cache of device capabilities before each test."""
    native_bfloat16.cache_clear()
    yield
    native_bfloat16.cache_clear()


def _product_dtype(name: str) -> torch.dtype:
    with autocast(CPU, name):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_a_precision_that_is_named_is_used() -> None:
    assert _product_dtype("float32") == torch.float32
    assert _product_dtype("bfloat16") == torch.bfloat16


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"fpu", "avx2"}, torch.float32),
        ({"fpu", "avx512f", "avx512bw"}, torch.float32),
        ({"fpu", "avx512_bf16"}, torch.bfloat16),
        ({"fpu", "amx_bf16", "amx_tile"}, torch.bfloat16),
        (set(), torch.float32),
    ],
)
def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch, flags: set[str], dtype: torch.dtype) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert native_bfloat16("cpu") is (dtype == torch.bfloat16)
    assert _product_dtype("auto") == dtype


def test_without_onednn_bfloat16_is_not_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"amx_bf16"})
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert native_bfloat16("cpu") is False


def test_any_device_has_an_answer() -> None:
    assert native_bfloat16("cpu") in (True, False)
    assert native_bfloat16("some-new-device") is False


def test_autocast_ends_with_its_block() -> None:
    with autocast(CPU, "bfloat16"):
        pass
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_on_a_gpu_is_its_native_type() -> None:
    device = torch.device("cuda")
    with autocast(device, "auto"):
        dtype = (torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)).dtype
    assert (dtype == torch.bfloat16) == torch.cuda.is_bf16_supported(including_emulation=False)
