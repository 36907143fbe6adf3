"""The rate-distortion loss of stage 1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hfd.autoencoder.model import Stage1Output


@dataclass(frozen=True)
class RateDistortion:
    """Scalars, float32: ``loss`` to minimise, ``mse`` on the [0, 1] scale, ``bpp_est`` bits per pixel."""

    loss: Tensor
    mse: Tensor
    bpp_est: Tensor


def rate_distortion(output: Stage1Output, x: Tensor, lmbda: float | Tensor) -> RateDistortion:
    """loss = lmbda 255^2 MSE + bpp_est, averaged over a batch x (B, 3, H, W) in [0, 1] (CompressAI's convention).

    ``lmbda``: one weight, or one of each picture (B,).
    """
    mse = (output.x_hat - x.float()).square().mean(dim=(1, 2, 3))
    bpp_est = (output.bits_y + output.bits_z).mean() / (x.shape[-2] * x.shape[-1])
    return RateDistortion(loss=(lmbda * 255**2 * mse).mean() + bpp_est, mse=mse.mean(), bpp_est=bpp_est)
