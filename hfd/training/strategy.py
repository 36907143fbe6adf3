"""How a network is spread over training workers: whole on each (DDP), or in shares (FSDP).

Measured on CPUs with gloo. On GPUs with NCCL both are unmeasured.
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
    """Over how many workers, and how; ``compile`` and ``recompute`` as in :class:`hfd.config.TrainConfig`."""

    world: int = 1
    strategy: Strategy = "ddp"
    compile: bool = False
    recompute: bool = False

    @property
    def is_sharded(self) -> bool:
        """Whether a worker holds a share of each parameter only."""
        return self.world > 1 and self.strategy == "fsdp"


@dataclass(frozen=True)
class Units:
    """The parts of a network: ``blocks`` are gathered, and recomputed, one at a time; ``whole`` is never shared out.

    ``apart``: names of parameters that no loss of a batch has a gradient for.
    """

    blocks: tuple[nn.Module, ...] = ()
    whole: tuple[nn.Module, ...] = ()
    apart: tuple[str, ...] = ()


def wrap_module(module: nn.Module, parallelism: Parallelism, units: Units) -> nn.Module:
    """The module as the loss calls it, training; call it before an optimiser is given the parameters."""
    # FSDP wants the parameters in their plain order; convolutions then reorder them on the way.
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
    """Passes inside average the gradients over the workers if they are the ``last`` of a step.

    Under FSDP all of them do: kept whole until the last, gradients would take the room that it is there to save.
    """
    with contextlib.ExitStack() as stack:
        for module in modules:
            if isinstance(module, DistributedDataParallel) and not last:
                stack.enter_context(module.no_sync())
        yield


def leaf_free(modules: Iterable[nn.Module]) -> tuple[nn.Module, ...]:
    """Those made of other modules: a single layer keeps its input anyway, and is not worth gathering alone."""
    return tuple(module for module in modules if any(True for _ in module.children()))
