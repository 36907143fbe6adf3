"""The engine of torch gives what its modules give, as arrays."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from hfd.autoencoder.transforms import transform
from hfd.engine.base import Stage1Reach
from hfd.engine.torch import TorchStage1, TorchStage2
from tests.support.networks import lively_elic, lively_unet


@torch.no_grad()
def test_stage_1() -> None:
    model, reach = lively_elic(8, 8, (8,)), Stage1Reach(1, 2, 3)
    engine = TorchStage1(*(partial(transform, network) for network in (model.g_a, model.h_a, model.g_s)), reach)
    x = torch.rand(1, 3, 64, 128)
    y = engine.analysis(x.numpy())
    z, x_hat = engine.hyper_analysis(y), engine.synthesis(8.0 * y)
    assert y.dtype == z.dtype == x_hat.dtype == np.float32 and engine.reach == reach
    np.testing.assert_allclose(y, model.g_a(x).numpy(), atol=1e-4)
    np.testing.assert_allclose(z, model.h_a(torch.from_numpy(y)).numpy(), atol=1e-4)
    np.testing.assert_allclose(x_hat, model.reconstruct(torch.from_numpy(8.0 * y)).numpy(), atol=1e-4)
    assert x_hat.min() == 0.0 and x_hat.max() == 1.0


@torch.no_grad()
def test_stage_2() -> None:
    net = lively_unet(2, (8, 8), (1, 1))
    engine = TorchStage2(net, net.stride, net.receptive_field_px)
    x_in, x_hat, known, level = (
        torch.randn(2, 3, 16, 24),
        torch.rand(2, 3, 16, 24),
        torch.rand(2, 4, 16, 24),
        torch.rand(2),
    )
    images = x_in.numpy(), x_hat.numpy(), level.numpy()
    np.testing.assert_allclose(engine(*images), net(x_in, x_hat, level).numpy(), atol=1e-5)
    np.testing.assert_allclose(engine(*images, known.numpy()), net(x_in, x_hat, level, known).numpy(), atol=1e-5)
    assert (engine.stride, engine.receptive_field_px) == (4, net.receptive_field_px)
    rough = TorchStage2(net, 4, 1, precision="bfloat16")(*images)
    assert rough.dtype == np.float32 and 0.0 < np.abs(rough - engine(*images)).max() < 0.2
