"""Parameters of one worker: whole, or under FSDP the worker's shard of each.

Optimisers and averages get plain tensors in both cases; a shard shares the parameter's memory. Checkpoints and weights
hold whole tensors, so that they fit any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class Shards:
    """Parameters and this worker's shards of them, ``local``. Under FSDP all workers call each method together."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.is_whole = not any(isinstance(parameter, DTensor) for parameter in self._parameters)
        self.local = [
            nn.Parameter(_local(parameter.detach())) if isinstance(parameter, DTensor) else parameter
            for parameter in self._parameters
        ]

    def clip(self, limit: float) -> Tensor:
        """Move gradients to the shards, clip their global norm to ``limit``, and return the norm before clipping."""
        if self.is_whole:
            return nn.utils.clip_grad_norm_(self._parameters, limit)
        shared, replicated = [], []
        for parameter, local in zip(self._parameters, self.local, strict=True):
            if isinstance(parameter.grad, DTensor):
                local.grad = parameter.grad.to_local()
                shared.append(local.grad)
            elif parameter.grad is not None:
                replicated.append(parameter.grad)
        dist.all_reduce(square := _squares(shared, self.local[0]))
        norm = (square + _squares(replicated, self.local[0])).sqrt()
        torch._foreach_mul_(shared + replicated, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def average_replicated(self, world: int) -> None:
        """Under FSDP, average the gradients of unsharded parameters, which FSDP does not."""
        if self.is_whole:
            return
        gradients = [
            parameter.grad
            for parameter in self._parameters
            if parameter.grad is not None and not isinstance(parameter, DTensor)
        ]
        if gradients:
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            means = torch.split(flat / world, [gradient.numel() for gradient in gradients])
            for gradient, mean in zip(gradients, means, strict=True):
                gradient.copy_(mean.view_as(gradient))

    def forget_gradients(self) -> None:
        for parameter in [*self._parameters, *self.local]:
            parameter.grad = None

    def whole(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Gather tensors of the shapes of ``local`` to the shapes of the parameters."""
        assert len(tensors) == len(self._parameters)
        return [self._gather(index, tensor) for index, tensor in enumerate(tensors)]

    def mine(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return this worker's shards of whole tensors."""
        return [_share(tensor, like) for tensor, like in zip(tensors, self._parameters, strict=True)]

    def optimiser_state(self, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the state of an optimiser over ``local``, with whole tensors."""
        return self._map_moments(optimiser.state_dict(), self._gather)

    def load_optimiser(self, optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        def lay_out(index: int, moment: Tensor) -> Tensor:
            # In the memory layout of its parameter, which fused steps need and which differs between strategies.
            return torch.empty_like(self.local[index]).copy_(_share(moment, self._parameters[index]))

        optimiser.load_state_dict(self._map_moments(state, lay_out))

    def _map_moments(self, state: Mapping[str, Any], change: Callable[[int, Tensor], Tensor]) -> dict[str, Any]:
        changed = {
            index: {
                # The number of steps is a scalar; moments have the shape of their parameter.
                name: change(index, value) if value.dim() else value
                for name, value in sorted(moments.items())
            }
            for index, moments in sorted(state["state"].items())
        }
        return {**state, "state": changed}

    def _gather(self, index: int, tensor: Tensor) -> Tensor:
        like = self._parameters[index]
        if not isinstance(like, DTensor):
            return tensor
        distributed = DTensor.from_local(
            tensor.detach(), like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
        # To the host at once, to save memory of the device.
        return distributed.full_tensor().cpu()


def module_state(module: nn.Module) -> dict[str, Any]:
    """Return the state of a module with whole tensors."""
    state: dict[str, Any] = module.state_dict()
    return {name: value.full_tensor().cpu() if isinstance(value, DTensor) else value for name, value in state.items()}


def load_module(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load whole tensors into a module."""
    own = module.state_dict()
    shares = {name: distributed_like(value, own[name]) if name in own else value for name, value in state.items()}
    module.load_state_dict(shares)


def distributed_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor, which every worker holds, in the same way as another."""
    if not isinstance(like, DTensor):
        return tensor
    # Without a source rank, each worker cuts its own shard and sends nothing.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _share(tensor: Tensor, like: Tensor) -> Tensor:
    return _local(distributed_like(tensor, like))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _squares(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    total = torch.zeros((), device=like.device)
    return total + torch.stack([tensor.float().square().sum() for tensor in tensors]).sum() if tensors else total
