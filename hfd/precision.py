"""Which arithmetic a device is given."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager

import torch


@functools.cache
def native_bfloat16(device_type: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        capabilities = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return bool(capabilities) and _cpu_flags() & {"avx512_bf16", "amx_bf16"} != set()
    return False


def _cpu_flags() -> set[str]:
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
    enabled = precision == "bfloat16" or (precision == "auto" and native_bfloat16(device.type))
    return torch.autocast(device_type=device.type, dtype=torch.bfloat16, enabled=enabled)
