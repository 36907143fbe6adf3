"""ELIC (He et al., arXiv 2203.10886) from CompressAI's parts.

:meth:`Elic.traverse_latent` visits the latent in floating point, with gradients, for training and estimates;
:mod:`hfd.autoencoder.traversal` does the same in integers for files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hfd.autoencoder.library import Elic2022Official, MeanScaleHyperprior, quantize_ste
from hfd.autoencoder.likelihoods import LIKELIHOOD_BOUND, SCALE_BOUND
from hfd.autoencoder.normalisation import fuse_gdn
from hfd.autoencoder.residual import first_spreads, residual_analysis, residual_synthesis
from hfd.autoencoder.transforms import transform

STRIDE = 64
"""Sides of the transforms' input are multiples of this (y: 1/16, z: 1/64)."""

CodeStep = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(group k, positions (n,), scales_hat (B, G_k, n), means_hat (B, G_k, n)) -> y_hat (B, G_k, n)."""


@dataclass(frozen=True)
class Stage1Output:
    """``x_hat`` (B, 3, H, W) float32, about [0, 1], not clamped; ``bits_y``, ``bits_z`` (B,) float32, estimated."""

    x_hat: Tensor
    bits_y: Tensor
    bits_z: Tensor


class Elic(nn.Module):
    """The stage-1 autoencoder.

    ``N``: channels of the transforms; ``M``: channels of the latent y; ``groups``: channel groups of the
    space-channel context model, summing to ``M``; ``gdn_channels``: None for ELIC's own g_a and g_s, else the width of
    four strided 5x5 convolutions with generalised divisive normalisation (Balle et al., arXiv 1802.01436), which train
    much faster and end less capable. ``residual``: widths and numbers of blocks of
    :mod:`hfd.autoencoder.residual` instead. Module names follow the paper: g_a, g_s, h_a, h_s, and g_ch, g_sp,
    param_aggregation for the context model.
    """

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        groups: Sequence[int] = (16, 16, 32, 64, 192),
        gdn_channels: int | None = None,
        residual: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        assert gdn_channels is None or residual is None
        parts = Elic2022Official(N=N, M=M, groups=list(groups))
        hyper, latent = parts.latent_codec["hyper"], parts.latent_codec["y"]
        self.N, self.M, self.groups = N, M, tuple(groups)
        self.g_a, self.g_s = parts.g_a, parts.g_s
        if gdn_channels is not None:
            transforms = MeanScaleHyperprior(gdn_channels, M)
            self.g_a, self.g_s = fuse_gdn(transforms.g_a), fuse_gdn(transforms.g_s)
        if residual is not None:
            self.g_a, self.g_s = residual_analysis(*residual, M), residual_synthesis(*residual, M)
        self.h_a, self.h_s, self.entropy_bottleneck = hyper.h_a, hyper.h_s, hyper.entropy_bottleneck
        codecs = [latent.latent_codec[f"y{k}"] for k in range(len(self.groups))]
        self.g_ch = nn.ModuleList(latent.channel_context[f"y{k}"] for k in range(1, len(self.groups)))
        self.g_sp = nn.ModuleList(codec.context_prediction for codec in codecs)
        self.param_aggregation = nn.ModuleList(codec.entropy_parameters for codec in codecs)
        if residual is not None:
            self._set_first_scales(first_spreads(M))

    @torch.no_grad()
    def _set_first_scales(self, spreads: Tensor) -> None:
        """Start the entropy scales at the spreads (M,) of the first latents.

        A latent far outside of its scale has no gradient, and too wide a scale takes thousands of steps to shrink.
        """
        parts = torch.split(spreads, list(self.groups))
        for network, spread in zip(self.param_aggregation, parts, strict=True):
            network[-1].bias[: len(spread)] = spread  # type: ignore[index]

    def forward(
        self, x: Tensor, noise: tuple[Tensor, Tensor] | None = None, steps: Tensor | None = None
    ) -> Stage1Output:
        """Code x (B, 3, H, W) in [0, 1], sides multiples of ``STRIDE``, with estimated bits.

        In training mode with noise for the rate and straight-through rounding for the distortion; in eval mode with
        rounding for both. ``noise``: in place of rounding y and z, uniform on [-1/2, 1/2) (:meth:`noise_shapes`); None:
        from torch's global generator. ``steps`` (B,): the quantiser's step of each picture's y, above 0; None: 1.
        """
        y = self.g_a(x).float()
        noise_y, noise_z = (None, None) if noise is None or not self.training else noise
        z_hat, bits_z = self._hyper_latent(self.h_a(y).float(), noise_z)
        if noise_y is None and self.training:
            noise_y = torch.empty_like(y).uniform_(-0.5, 0.5)
        delta = y.new_ones(()) if steps is None else steps.to(y).reshape(-1, 1, 1)
        bits_y: list[Tensor] = []

        def code(k: int, at: Tensor, scales_hat: Tensor, means_hat: Tensor) -> Tensor:
            y_k = self.group(y, k).flatten(2)[..., at]
            rounded: Tensor = quantize_ste((y_k - means_hat) / delta) * delta + means_hat
            noisy = rounded if noise_y is None else y_k + delta * self.group(noise_y, k).flatten(2)[..., at]
            bits_y.append(gaussian_bits((noisy - means_hat) / delta, scales_hat / delta))
            return rounded

        y_hat = self.traverse_latent(z_hat, code)
        return Stage1Output(x_hat=self.g_s(y_hat).float(), bits_y=torch.stack(bits_y).sum(0), bits_z=bits_z)

    def noise_shapes(self, height: int, width: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Shapes of y and z for one picture of this size."""
        y_stride = STRIDE // 4
        return (self.M, height // y_stride, width // y_stride), (self.N, height // STRIDE, width // STRIDE)

    def _hyper_latent(self, z: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        # The bottleneck's matmuls would be autocast; likelihoods near 1e-9 need float32.
        with torch.autocast(device_type=z.device.type, enabled=False):
            likelihood = self.entropy_bottleneck(z)[1] if noise is None else self._likelihood(z + noise)
            medians = self.medians()
            z_hat = quantize_ste(z - medians) + medians
            return z_hat, -likelihood.log2().sum(dim=(1, 2, 3))

    def _likelihood(self, z: Tensor) -> Tensor:
        """Likelihood of noisy z (B, N, h, w), as the bottleneck computes it after adding noise itself."""
        by_channel = z.transpose(0, 1)
        raw, _, _ = self.entropy_bottleneck._likelihood(by_channel.reshape(z.shape[1], 1, -1))
        likelihood: Tensor = self.entropy_bottleneck.likelihood_lower_bound(raw)
        return likelihood.reshape(by_channel.shape).transpose(0, 1)

    def medians(self) -> Tensor:
        """Medians of z's channels, (1, N, 1, 1), detached."""
        quantiles: Tensor = self.entropy_bottleneck.quantiles
        return quantiles[:, 0, 1].detach().reshape(1, -1, 1, 1)

    def group(self, y: Tensor, k: int) -> Tensor:
        """Channel group k of a latent (B, M, h, w)."""
        return torch.split(y, list(self.groups), dim=1)[k]

    def traverse_latent(self, z_hat: Tensor, code: CodeStep) -> Tensor:
        """Visit the latent in coding order and return y_hat (B, M, 4h, 4w) float32.

        For each channel group, first the anchors of a checkerboard, then the rest: ``code`` maps flat positions and
        their entropy parameters (from z_hat, earlier groups, and for the rest the anchors) to the quantised values.
        """
        hyper = self.h_s(z_hat)
        height, width = hyper.shape[-2:]
        anchors, rest = checkerboard(height, width, hyper.device)
        done: list[Tensor] = []
        for k, channels in enumerate(self.groups):
            side = hyper if k == 0 else torch.cat([self.g_ch[k - 1](torch.cat(done, dim=1)), hyper], dim=1)
            side = side.flatten(2)
            empty = hyper.new_zeros((hyper.shape[0], channels, height * width), dtype=torch.float32)
            context = empty.new_zeros((empty.shape[0], 2 * channels, len(anchors)))
            y_anchors = code(k, anchors, *self._entropy_parameters(k, context, side[..., anchors]))
            y_k = empty.index_copy(2, anchors, y_anchors)
            context = self.g_sp[k](y_k.unflatten(2, (height, width))).flatten(2)[..., rest]
            y_rest = code(k, rest, *self._entropy_parameters(k, context, side[..., rest]))
            done.append(y_k.index_copy(2, rest, y_rest).unflatten(2, (height, width)))
        return torch.cat(done, dim=1)

    def _entropy_parameters(self, k: int, context: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        merged = torch.cat([context.to(side.dtype), side], dim=1).unsqueeze(-1)
        scales_hat, means_hat = self.param_aggregation[k](merged).squeeze(-1).float().chunk(2, dim=1)
        return scales_hat, means_hat

    def reconstruct(self, y_hat: Tensor) -> Tensor:
        """Decode a quantised latent to x_hat (B, 3, H, W) float32 in [0, 1]."""
        return transform(self.g_s, y_hat).float().clamp(0.0, 1.0)


def checkerboard(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Flat positions of the anchors (row + column even) and of the rest, in raster order."""
    rows = torch.arange(height, device=device).unsqueeze(1)
    columns = torch.arange(width, device=device).unsqueeze(0)
    odd = ((rows + columns) % 2).flatten()
    return torch.nonzero(odd == 0).squeeze(1), torch.nonzero(odd == 1).squeeze(1)


def gaussian_bits(residual: Tensor, scales_hat: Tensor) -> Tensor:
    """Bits (B,) of residuals (B, G, n) under a zero-mean Gaussian convolved with a unit box.

    P = Phi((1/2 - |r|) / s) - Phi((-1/2 - |r|) / s), s bounded below by 0.11 and P by 1e-9 (Balle et al.,
    arXiv 1802.01436).
    """
    scales_hat = lower_bound(scales_hat, SCALE_BOUND)
    magnitude = residual.abs()
    upper = _normal_cdf((0.5 - magnitude) / scales_hat)
    lower = _normal_cdf((-0.5 - magnitude) / scales_hat)
    return -lower_bound(upper - lower, LIKELIHOOD_BOUND).log2().sum(dim=(1, 2))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -(2**-0.5))


class _LowerBound(torch.autograd.Function):
    """max(x, bound), with a gradient that still increases x below the bound."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound  # type: ignore[attr-defined]
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (grad,) = grads
        return grad * ((x >= ctx.bound) | (grad < 0)), None  # type: ignore[attr-defined]


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) with the one-sided gradient of Balle et al."""
    bounded: Tensor = _LowerBound.apply(x, bound)
    return bounded


def pad_to_stride(x: Tensor, stride: int = STRIDE) -> Tensor:
    """Pad (B, C, H, W) to multiples of ``stride`` by replicating the right and lower edges."""
    height, width = x.shape[-2:]
    right, below = -width % stride, -height % stride
    return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x
