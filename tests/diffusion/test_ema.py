"""The moving average against a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hfd.diffusion.ema import Ema


def test_average_is_that_of_a_plain_loop() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(5))]
    ema = Ema(parameters, decay=0.9)
    expected = [parameter.detach().double() for parameter in parameters]
    for step in range(200):
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(torch.randn_like(parameter))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [
            decay * old + (1 - decay) * new.detach().double() for old, new in zip(expected, parameters, strict=True)
        ]
    for average, value in zip(ema.averages, expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (71, 72 / 81), (10**6, 0.99)])
def test_decay_starts_small(step: int, decay: float) -> None:
    weight = nn.Parameter(torch.ones(1))
    ema = Ema([weight], decay=0.99)
    with torch.no_grad():
        weight.zero_()
    ema.update(step)
    assert float(ema.averages[0]) == pytest.approx(decay, rel=1e-4)


def test_averages_are_float32_copies() -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.float32))
    ema = Ema([weight], decay=0.5)
    with torch.no_grad():
        weight.add_(1.0)
    assert ema.averages[0].dtype == torch.float32 and not ema.averages[0].requires_grad
    assert bool((ema.averages[0] == 1.0).all())


def test_load() -> None:
    ema = Ema([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))], decay=0.5)
    values = [torch.ones(2), torch.full((3,), 2.0)]
    ema.load(values)
    assert torch.equal(ema.averages[1], values[1])
    ema.averages[0].zero_()
    assert bool((values[0] == 1.0).all())
    with pytest.raises(ValueError, match="shorter"):
        ema.load(values[:1])
