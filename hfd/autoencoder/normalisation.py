"""Generalised divisive normalisation in one pass through the cache, with its gradients. The layer is CompressAI's."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hfd.autoencoder.library import GDN

_AT_ONCE = 1024
"""Positions normalised at once on a CPU, few enough for the cache."""


class FusedGdn(GDN):  # type: ignore[misc]  # CompressAI is not typed
    """y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), or times it for the inverse (Balle et al., arXiv 1511.06281).

    CompressAI's function, parameters and initial values; a quarter of its time on a CPU and fewer maps in memory. Sums
    are in float32 at least, under autocast too, but compiled in the type of the input, which a matrix unit multiplies.
    The output has the type of the input, and channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W). Differentiable once."""
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)
        if torch.compiler.is_compiling():
            return _written_out(x, beta, gamma, self.inverse)
        if torch.is_grad_enabled():
            normalised: Tensor = _Normalise.apply(x, beta, gamma, self.inverse)
            return normalised
        rows = _rows_of(x)
        return _as_map(_normalise(rows, beta, gamma, self.inverse, torch.empty_like(rows)), x)

    @torch.no_grad()
    def in_place(self, x: Tensor) -> Tensor:
        """Normalise x, whose memory is overwritten if its channels are last, without gradients."""
        rows = _rows_of(x)
        beta, gamma = self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)
        return _as_map(_normalise(rows, beta, gamma, self.inverse, rows), x)


def fuse_gdn(network: nn.Sequential) -> nn.Sequential:
    """Replace the new GDN layers of a network, in place, with :class:`FusedGdn`. Returns the network."""
    for i, layer in enumerate(network):
        if isinstance(layer, GDN):
            network[i] = FusedGdn(len(layer.beta), inverse=layer.inverse)
    return network


def _written_out(x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
    """The formula in few operations, which a compiler fuses; a loop over parts takes it minutes."""
    rows = _rows_of(x)
    energy = torch.addmm(beta.to(rows.dtype), rows * rows, gamma.t().to(rows.dtype))
    return _as_map(rows * (energy.sqrt() if inverse else energy.rsqrt()), x)


class _Normalise(torch.autograd.Function):
    """With a = beta + gamma s, s = x^2, and the factors f = a^(-1/2): y = x f, and for a gradient g of y

    h = -g x f^3 / 2 is that of a, so that that of x is g f + 2 x (gamma^T h), of gamma h s^T, of beta h, summed over
    positions. For the inverse, f = a^(1/2) and h = g x / (2 f).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
        rows = _rows_of(x)
        factors = torch.empty_like(rows, dtype=_working_type(rows))
        out = _normalise(rows, beta, gamma, inverse, torch.empty_like(rows), factors)
        ctx.save_for_backward(rows, factors, gamma)
        ctx.inverse = inverse
        return _as_map(out, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, factors, gamma = ctx.saved_tensors
        mix = gamma.to(factors.dtype)
        grad_x = torch.empty_like(rows)
        grad_beta, grad_gamma = torch.zeros_like(mix[0]), torch.zeros_like(mix)
        with _without_autocast(grad.device):
            for g, x, f, found in _split(_rows_of(grad), rows, factors, grad_x):
                x, g = x.to(f.dtype), g.to(f.dtype)
                half = g * x
                half = half.div_(f).mul_(0.5) if ctx.inverse else half.mul_(f).mul_(f).mul_(f).mul_(-0.5)
                grad_beta += half.sum(0)
                grad_gamma.addmm_(half.t(), x.square())
                found.copy_(torch.mm(half, mix).mul_(x).mul_(2.0).addcmul_(g, f))
        return _as_map(grad_x, grad), grad_beta.to(gamma.dtype), grad_gamma.to(gamma.dtype), None


def _normalise(
    rows: Tensor, beta: Tensor, gamma: Tensor, inverse: bool, out: Tensor, factors: Tensor | None = None
) -> Tensor:
    """Write the normalised rows (n, C) to ``out``, which may be the rows themselves, and what they are multiplied by to
    ``factors``, in the working type."""
    kind = _working_type(rows)
    mix, beta = gamma.t().to(kind).contiguous(), beta.to(kind)
    with _without_autocast(rows.device):
        for part in _split(rows, out, *([] if factors is None else [factors])):
            x = part[0].to(kind)
            energy = torch.addmm(beta, x.square(), mix)
            factor = energy.sqrt_() if inverse else energy.rsqrt_()
            if factors is not None:
                part[2].copy_(factor)
            torch.mul(x, factor, out=part[1]) if out.dtype == kind else part[1].copy_(x * factor)
    return out


def _split(*rows: Tensor) -> list[tuple[Tensor, ...]]:
    """Cut all into the same parts: for the cache of a CPU, or whole."""
    count = _AT_ONCE if rows[0].device.type == "cpu" else max(1, len(rows[0]))
    return list(zip(*(torch.split(one, count) for one in rows), strict=True))


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    available = torch.amp.is_autocast_available(device.type)  # not for shapes alone, on the device meta
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def _working_type(rows: Tensor) -> torch.dtype:
    return torch.promote_types(rows.dtype, torch.float32)


def _rows_of(x: Tensor) -> Tensor:
    """Positions (B H W, C) of a map (B, C, H, W), in its own memory if channels are last."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """The map (B, C, H, W) of rows, with channels last."""
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
