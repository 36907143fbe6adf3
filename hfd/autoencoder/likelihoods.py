"""Bits of latents by the model's own likelihoods, in NumPy: an estimate beside the bytes that the coder writes.

Slower than coding, so that it is computed only where it is asked for.
"""

from __future__ import annotations

import math

import numpy as np

from hfd.autoencoder.entropy_weights import Arrays
from hfd.autoencoder.rates import Units

LIKELIHOOD_BOUND = 1e-9
SCALE_BOUND = 0.11

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def gaussian_bits(residual: Units, scales: Units) -> float:
    """Bits of residuals under a zero-mean Gaussian convolved with a unit box; both in steps, of one shape.

    P = Phi((1/2 - |r|) / s) - Phi((-1/2 - |r|) / s), s bounded below by 0.11 and P by 1e-9 (Balle et al.,
    arXiv 1802.01436).
    """
    magnitude, scales = np.abs(residual), np.maximum(scales, SCALE_BOUND) * math.sqrt(2.0)
    likelihood = 0.5 * (_erfc((magnitude - 0.5) / scales) - _erfc((magnitude + 0.5) / scales))
    return float(-np.log2(np.maximum(likelihood, LIKELIHOOD_BOUND)).sum())


def hyper_bits(z_hat: Units, arrays: Arrays) -> float:
    """Bits of z_hat (N, h, w) by the tensors ``entropy_bottleneck`` (Balle et al., arXiv 1802.01436, appendix 6.1)."""
    values = z_hat.reshape(len(z_hat), 1, -1)
    lower, upper = (_cumulative(values + side, arrays) for side in (-0.5, 0.5))
    likelihood = _sigmoid(upper) - _sigmoid(lower)
    return float(-np.log2(np.maximum(likelihood, LIKELIHOOD_BOUND)).sum())


def _cumulative(x: Units, arrays: Arrays) -> Units:
    """Logits of the cumulative distribution, (N, 1, n)."""
    i = 0
    while f"entropy_bottleneck.matrices.{i}" in arrays:
        matrix, bias = (_part(arrays, f"{part}.{i}") for part in ("matrices", "biases"))
        x = np.log1p(np.exp(matrix)) @ x + bias
        if f"entropy_bottleneck.factors.{i}" in arrays:
            x = x + np.tanh(_part(arrays, f"factors.{i}")) * np.tanh(x)
        i += 1
    return x


def _part(arrays: Arrays, name: str) -> Units:
    return arrays[f"entropy_bottleneck.{name}"].astype(np.float64)


def _sigmoid(x: Units) -> Units:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
