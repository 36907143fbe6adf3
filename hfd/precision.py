"""Choice of arithmetic by device."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CPU_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
"""Processor flags as Linux names them; elsewhere float32 is used."""


@functools.cache
def native_bfloat16(device_type: str) -> bool:
    """True if the device multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    import torch  # here: the flags alone are read before any heavy import

    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type == "cpu":
        return bool(torch.backends.mkldnn.is_available()) and not cpu_flags().isdisjoint(_CPU_BFLOAT16)  # type: ignore[no-untyped-call]
    return False


def cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:  # noqa: PTH123 -- a kernel file
            for line in lines:
                if line.startswith("flags"):
                    return set(line.split())
    except OSError:
        pass
    return set()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bfloat16 autocast for ``"bfloat16"``, and for ``"auto"`` where the device computes it natively."""
    import torch

    enabled = precision == "bfloat16" or (precision == "auto" and native_bfloat16(device.type))
    return torch.autocast(device_type=device.type, dtype=torch.bfloat16, enabled=enabled)
