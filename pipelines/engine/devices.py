"""Devices and torch threads of workers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from hfd.config import ClusterConfig
from hfd.errors import ConfigError


def map_device(config: ClusterConfig) -> str:
    """Return the device of networks in a map with ``with_gpus``: ``cuda`` only where ``map_gpus`` requests a GPU."""
    return "cuda" if config.map_gpus else "cpu"


def check_gpus_here(config: ClusterConfig) -> None:
    """Raise :class:`ConfigError` where the configuration requests GPUs and this machine has none."""
    for name, wanted in (("train_gpus", config.train_gpus), ("map_gpus", config.map_gpus)):
        if not wanted:
            continue
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(f"cluster.{name}: got {wanted:g}, expected 0. This machine has no CUDA device")


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Limit torch to ``count`` threads inside the block, if this process has imported torch."""
    if "torch" not in sys.modules:
        # Work that does not need torch, such as cropping photographs, would pay seconds and memory for the import.
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
