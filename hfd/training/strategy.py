"""Parallel training of a network: whole on each worker (DDP), or sharded (FSDP).

Measured on CPUs with gloo; not measured on GPUs with NCCL.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hfd.errors import ConfigError
from hfd.kinds import Strategy
from hfd.training.recompute import recompute


@dataclass(frozen=True)
class Parallelism:
    """``world``: number of workers; ``compile``, ``recompute``: as in :class:`hfd.config.TrainConfig`."""

    world: int = 1
    strategy: Strategy = "ddp"
    compile: bool = False
    recompute: bool = False

    @property
    def is_sharded(self) -> bool:
        """True if a worker holds only a shard of each parameter."""
        return self.world > 1 and self.strategy == "fsdp"


@dataclass(frozen=True)
class Units:
    """Parts of a network: ``blocks`` are gathered and recomputed one at a time; ``whole`` is never sharded.

    ``apart``: names of parameters to which no loss of a batch has gradients.
    """

    blocks: tuple[nn.Module, ...] = ()
    whole: tuple[nn.Module, ...] = ()
    apart: tuple[str, ...] = ()


def wrap_module(module: nn.Module, parallelism: Parallelism, units: Units) -> nn.Module:
    """Prepare a module for training and return the one to call; call this before making the optimiser."""
    # FSDP needs contiguous parameters; convolutions then reorder them.
    module.train().to(memory_format=torch.contiguous_format if parallelism.is_sharded else torch.channels_last)
    if parallelism.recompute:
        recompute(units.blocks)
    if parallelism.is_sharded:
        return _fsdp_module(module, parallelism, units)
    if parallelism.compile:
        module.compile()
    if parallelism.world == 1:
        return module
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, list(units.apart))  # type: ignore[no-untyped-call]
    return DistributedDataParallel(module)


def _fsdp_module(module: nn.Module, parallelism: Parallelism, units: Units) -> nn.Module:
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    fully_shard = getattr(fsdp, "fully_shard", None)
    if fully_shard is None or "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise ConfigError(
            f"cluster.strategy: got fsdp with torch {torch.__version__}, expected ddp. Or install a newer torch"
        )
    device = next(module.parameters()).device
    mesh = init_device_mesh(device.type, (parallelism.world,))
    whole = {parameter for one in units.whole for parameter in one.parameters()}
    for block in units.blocks:
        if parallelism.compile:
            block.compile()
        fully_shard(block, mesh=mesh, ignored_params=whole)
    fully_shard(module, mesh=mesh, ignored_params=whole)
    return module


@contextlib.contextmanager
def syncing(last: bool, *modules: nn.Module) -> Iterator[None]:
    """Average gradients over the workers only in the ``last`` pass of a step; under FSDP in each, to save memory."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if isinstance(module, DistributedDataParallel) and not last:
                stack.enter_context(module.no_sync())
        yield


def leaf_free(modules: Iterable[nn.Module]) -> tuple[nn.Module, ...]:
    """Return the modules that contain others: recomputing or gathering a single layer gains nothing."""
    return tuple(module for module in modules if any(True for _ in module.children()))
