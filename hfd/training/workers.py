"""What training workers say to each other beside gradients: few bytes, on the host, so that no GPU is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hfd import errors
from hfd.errors import HfdError, TrainingError

T = TypeVar("T")

_GO, _DO, _STOP = range(3)


class Workers:
    """This worker among ``world``. Every method has to be called by all of them, in the same order.

    An :class:`HfdError` of one is raised on all: one that stopped alone would leave the others waiting.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        # NCCL moves tensors of GPUs alone; what is said here lies on the host.
        self._group: Any = dist.new_group(backend="gloo") if world > 1 else None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def agree(self, wish: bool, error: HfdError | None = None) -> bool:
        """Whether the first worker wishes it; raises what any of them cannot go on for."""
        if self.world == 1:
            if error is not None:
                raise error
            return wish
        code = _STOP if error is not None else _DO if wish and self.is_first else _GO
        shared = torch.tensor([code])
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._group)
        if int(shared) == _STOP:
            self._raise_first(error)
        return int(shared) == _DO

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the workers, float64 on the host; not finite where it is not on any of them."""
        values = values.detach().to("cpu", torch.float64)
        if self.world > 1:
            dist.all_reduce(values, group=self._group)
            values /= self.world
        return values

    def together(self, call: Callable[[], T]) -> T:
        """What ``call`` returns here, once it has returned on all workers."""
        value, error = None, None
        try:
            value = call()
        except HfdError as caught:
            error = caught
        self.agree(False, error)
        return value  # type: ignore[return-value]  # only None where an error was raised

    def first(self, call: Callable[[], T]) -> T:
        """What ``call`` returns on the first worker, which alone calls it."""
        if self.world == 1:
            return call()
        shared: list[Any] = [None]
        error = None
        if self.is_first:
            try:
                shared = [call()]
            except HfdError as caught:
                error = caught
        self.agree(False, error)
        dist.broadcast_object_list(shared, src=0, group=self._group)
        value: T = shared[0]
        return value

    def _raise_first(self, error: HfdError | None) -> None:
        told: list[Any] = [None] * self.world
        dist.all_gather_object(told, error and (type(error).__name__, str(error)), group=self._group)
        if error is not None:
            raise error
        kind, message = next(one for one in told if one is not None)
        raise getattr(errors, kind, TrainingError)(message)
