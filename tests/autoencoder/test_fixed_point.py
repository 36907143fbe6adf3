"""Integer networks equal the rounded sums of a module with rounded weights, for any rows."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
import torch
from compressai.layers import CheckerboardMaskedConv2d
from torch import Tensor, nn

from hfd.autoencoder.fixed_point import LIMIT, Aggregation, Anchors, Stack, layers_of
from hfd.errors import DataError


def random_units(*shape: int, seed: int = 0, largest: int = 4000) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).double()


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and biases, large enough for every layer's rounding to matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 2 / parameter[0].numel() ** 0.5
    return network


@torch.no_grad()
def by_modules(network: nn.Module, units: Tensor) -> Tensor:
    """The answer in units of the modules themselves, float64, weights and every layer's answer rounded here."""
    x = (units / 1024).unsqueeze(0)
    for module in network if isinstance(network, nn.Sequential) else [network]:
        module = copy.deepcopy(module).double()
        if isinstance(module, nn.ReLU):
            x = module(x)
            continue
        module.weight.data = (module.weight.data * 2**16).round() / 2**16
        module.bias.data = (module.bias.data * 2**26).round() / 2**26
        x = (module(x) * 1024 + 0.5).floor().clamp(-LIMIT, LIMIT) / 1024
    return x[0] * 1024


def transposed_network() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(6, 5, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(5, 7, 5, stride=2, padding=2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(7, 4, 3, padding=1),
    )


def plain_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(6, 9, 5, padding=2), nn.ReLU(), nn.Conv2d(9, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )


@pytest.mark.parametrize("build", [transposed_network, plain_network])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 5)])
def test_layers_are_the_modules_with_rounding(build: object, height: int, width: int) -> None:
    network = lively(build())  # type: ignore[operator]
    units = random_units(6, height, width)
    expected = by_modules(network, units)
    stack = Stack(layers_of(network, "net"))
    got = stack.rows(lambda low, high: units[:, low:high], height, 0, expected.shape[1])
    assert torch.equal(got, expected)
    assert got.unique().numel() > 2


@pytest.mark.parametrize("build", [transposed_network, plain_network])
def test_rows_do_not_depend_on_the_requested_range(build: object) -> None:
    network = lively(build())  # type: ignore[operator]
    height, units = 6, random_units(6, 6, 4)
    stack = Stack(layers_of(network, "net"))
    out = 4 * height if build is transposed_network else height
    whole = stack.rows(lambda low, high: units[:, low:high], height, 0, out)
    for first in range(out):
        for last in range(first + 1, out + 1):
            got = stack.rows(lambda low, high: units[:, low:high], height, first, last)
            assert torch.equal(got, whole[:, first:last]), (first, last)


def test_a_sum_is_rounded_half_up_and_saturates() -> None:
    """One weight, one input: against exact fractions."""
    conv = nn.Conv2d(1, 1, 1)
    for weight, bias, value in (
        (0.5, 0.0, 1), (0.5, 0.0, -1), (0.5, 0.0, -3), (-0.25, 2.0**-12, 7), (1.75, -3.0, 5000), (1.0, 0.3, 12),
        (3.0, 0.0, LIMIT), (-3.0, 0.0, LIMIT), (0.1, 0.7, -777),
    ):  # fmt: skip
        conv.weight.data.fill_(weight)
        conv.bias.data.fill_(bias)
        (layer,) = layers_of(conv, "net")
        got = float(layer.rows(torch.full((1, 1, 1), float(value), dtype=torch.float64), 0, 0, 1))
        w = Fraction(round(Fraction(conv.weight.item()) * 2**16), 2**16)
        b = Fraction(round(Fraction(conv.bias.item()) * 2**26), 2**26)
        exact = (w * value + b * 1024 + Fraction(1, 2)).__floor__()
        assert got == max(-LIMIT, min(LIMIT, exact)), (weight, bias, value)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 12), (12, 4)])
def test_anchors_are_the_masked_convolution_between_them(height: int, width: int) -> None:
    module = CheckerboardMaskedConv2d(5, 6, kernel_size=5, padding=2, stride=1)
    lively(module)
    units = random_units(5, height, width)
    parity = torch.arange(height).unsqueeze(1).add(torch.arange(width)) % 2
    on_anchors = units * (parity == 0)
    expected = by_modules(module, on_anchors)
    compact = torch.stack([on_anchors[:, i, i % 2 :: 2] for i in range(height)], dim=1)
    padded = torch.nn.functional.pad(compact, (0, 0, 2, 2))
    got = Anchors.of(*layers_of(module, "g_sp")).rows(padded)
    for i in range(height):
        assert torch.equal(got[:, i], expected[:, i, 1 - i % 2 :: 2]), i


def test_aggregation_is_the_network_of_both() -> None:
    network = lively(nn.Sequential(nn.Conv2d(10, 9, 1), nn.ReLU(), nn.Conv2d(9, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    context, side = random_units(4, 7), random_units(6, 7, seed=1)
    aggregation = Aggregation(layers_of(network, "net"))
    for given, used in ((context, context), (None, torch.zeros_like(context))):
        expected = by_modules(network, torch.cat([used, side]).unsqueeze(2)).squeeze(2)
        assert torch.equal(torch.cat(aggregation(given, side)), expected)


def test_sums_that_could_be_inexact_are_refused() -> None:
    conv = nn.Conv2d(4, 2, 3)
    conv.padding = (1, 1)
    conv.weight.data.zero_()
    conv.bias.data.zero_()
    # 2^53 in all: 2^24 of an activation, 2^16 of a weight, 2^13 of weights.
    conv.weight.data[1, :2, 0, 0] = 2.0**12
    with pytest.raises(DataError, match=r"net\.0: got weights whose sums can reach .* expected less than 2\^53"):
        layers_of(conv, "net")
    conv.weight.data[1, 0, 0, 0] = 2.0**12 - 1
    layers_of(conv, "net")
    for broken in (float("nan"), float("inf")):
        conv.weight.data[0, 0, 0, 0] = broken
        with pytest.raises(DataError, match=r"net\.0"):
            layers_of(conv, "net")
