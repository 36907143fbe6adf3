"""Communication of training workers beside gradients: few bytes, on the host, without waiting for a GPU."""

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
    """Worker ``rank`` of ``world``. All workers call each method, in the same order.

    An :class:`HfdError` of one worker is raised on all, since the others would wait for it.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        # NCCL supports GPU tensors only; these are on the host.
        self._group: Any = dist.new_group(backend="gloo") if world > 1 else None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def agree(self, decision: bool, error: HfdError | None = None) -> bool:
        """Return the first worker's decision on all; raise the error of any worker on all."""
        if self.world == 1:
            if error is not None:
                raise error
            return decision
        code = _STOP if error is not None else _DO if decision and self.is_first else _GO
        shared = torch.tensor([code])
        dist.all_reduce(shared, dist.ReduceOp.MAX, group=self._group)
        if int(shared) == _STOP:
            self._raise_first(error)
        return int(shared) == _DO

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the workers, float64 on the host; not finite where one of them is not."""
        values = values.detach().to("cpu", torch.float64)
        if self.world > 1:
            dist.all_reduce(values, group=self._group)
            values /= self.world
        return values

    def together(self, call: Callable[[], T]) -> T:
        """Call ``call`` on all workers; return this worker's result once all have succeeded."""
        value, error = None, None
        try:
            value = call()
        except HfdError as caught:
            error = caught
        self.agree(False, error)
        return value  # type: ignore[return-value]  # None only if an error was raised

    def first(self, call: Callable[[], T]) -> T:
        """Call ``call`` on the first worker only; return its result on all."""
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
        errors_of_all: list[Any] = [None] * self.world
        dist.all_gather_object(errors_of_all, error and (type(error).__name__, str(error)), group=self._group)
        if error is not None:
            raise error
        kind, message = next(one for one in errors_of_all if one is not None)
        raise getattr(errors, kind, TrainingError)(message)
