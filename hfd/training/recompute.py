"""Activations that are computed again in the backward pass instead of being kept: memory for a third more time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(modules: Iterable[nn.Module]) -> None:
    """Let each module keep its inputs only, and compute the rest again when gradients pass through it.

    In place; parameters keep their names, and outputs and gradients their values. The modules may draw nothing at
    random.
    """
    for module in modules:
        module.forward = _recomputed(module.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def again(*inputs: Any) -> Any:
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False)

    return again
