"""Integer networks equal the rounded sums of a module with rounded weights, for any rows."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from compressai.layers import CheckerboardMaskedConv2d
from torch import nn

from hfd.autoencoder.entropy_weights import Kind, layers_of
from hfd.autoencoder.fixed_point import LIMIT, Aggregation, Anchors, Layer, Stack
from hfd.autoencoder.rates import Units
from hfd.errors import DataError


def random_units(*shape: int, seed: int = 0, largest: int = 4000) -> Units:
    generator = torch.Generator().manual_seed(seed)
    units: Units = torch.randint(-largest, largest + 1, shape, generator=generator).double().numpy()
    return units


def layers(network: nn.Module) -> tuple[Layer, ...]:
    """The integer layers of a module's weights."""
    named = {f"net.{name}": value.detach().numpy() for name, value in network.named_parameters()}
    first = network[0] if isinstance(network, nn.Sequential) else network
    transposed, masked = isinstance(first, nn.ConvTranspose2d), isinstance(first, CheckerboardMaskedConv2d)
    kind = Kind.TRANSPOSED if transposed else Kind.CHECKERBOARD if masked else Kind.PLAIN
    return layers_of(named, "net", kind)


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and biases, large enough for every layer's rounding to matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 2 / parameter[0].numel() ** 0.5
    return network


@torch.no_grad()
def by_modules(network: nn.Module, units: Units) -> Units:
    """The answer in units of the modules themselves, float64, weights and every layer's answer rounded here."""
    x = torch.from_numpy(units / 1024).unsqueeze(0)
    for module in network if isinstance(network, nn.Sequential) else [network]:
        module = copy.deepcopy(module).double()
        if isinstance(module, nn.ReLU):
            x = module(x)
            continue
        module.weight.data = (module.weight.data * 2**16).round() / 2**16
        module.bias.data = (module.bias.data * 2**26).round() / 2**26
        x = (module(x) * 1024 + 0.5).floor().clamp(-LIMIT, LIMIT) / 1024
    answer: Units = (x[0] * 1024).numpy()
    return answer


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
    stack = Stack(layers(network))
    got = stack.rows(lambda low, high: units[:, low:high], height, 0, expected.shape[1])
    assert np.array_equal(got, expected)
    assert len(np.unique(got)) > 2


@pytest.mark.parametrize("build", [transposed_network, plain_network])
def test_rows_do_not_depend_on_the_requested_range(build: object) -> None:
    network = lively(build())  # type: ignore[operator]
    height, units = 6, random_units(6, 6, 4)
    stack = Stack(layers(network))
    out = 4 * height if build is transposed_network else height
    whole = stack.rows(lambda low, high: units[:, low:high], height, 0, out)
    for first in range(out):
        for last in range(first + 1, out + 1):
            got = stack.rows(lambda low, high: units[:, low:high], height, first, last)
            assert np.array_equal(got, whole[:, first:last]), (first, last)


def test_a_sum_is_rounded_half_up_and_saturates() -> None:
    """One weight, one input: against exact fractions."""
    conv = nn.Conv2d(1, 1, 1)
    for weight, bias, value in (
        (0.5, 0.0, 1), (0.5, 0.0, -1), (0.5, 0.0, -3), (-0.25, 2.0**-12, 7), (1.75, -3.0, 5000), (1.0, 0.3, 12),
        (3.0, 0.0, LIMIT), (-3.0, 0.0, LIMIT), (0.1, 0.7, -777),
    ):  # fmt: skip
        conv.weight.data.fill_(weight)
        conv.bias.data.fill_(bias)
        (layer,) = layers(conv)
        got = layer.rows(np.full((1, 1, 1), float(value)), 0, 0, 1).item()
        w = Fraction(round(Fraction(conv.weight.item()) * 2**16), 2**16)
        b = Fraction(round(Fraction(conv.bias.item()) * 2**26), 2**26)
        exact = (w * value + b * 1024 + Fraction(1, 2)).__floor__()
        assert got == max(-LIMIT, min(LIMIT, exact)), (weight, bias, value)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 12), (12, 4)])
def test_anchors_are_the_masked_convolution_between_them(height: int, width: int) -> None:
    module = CheckerboardMaskedConv2d(5, 6, kernel_size=5, padding=2, stride=1)
    lively(module)
    units = random_units(5, height, width)
    parity = (np.arange(height)[:, None] + np.arange(width)) % 2
    on_anchors = units * (parity == 0)
    expected = by_modules(module, on_anchors)
    compact = np.stack([on_anchors[:, i, i % 2 :: 2] for i in range(height)], axis=1)
    padded = np.pad(compact, ((0, 0), (2, 2), (0, 0)))
    got = Anchors.of(*layers(module)).rows(padded)
    for i in range(height):
        assert np.array_equal(got[:, i], expected[:, i, 1 - i % 2 :: 2]), i


def test_aggregation_is_the_network_of_both() -> None:
    network = lively(nn.Sequential(nn.Conv2d(10, 9, 1), nn.ReLU(), nn.Conv2d(9, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    context, side = random_units(4, 7), random_units(6, 7, seed=1)
    aggregation = Aggregation(layers(network))
    for given, used in ((context, context), (None, np.zeros_like(context))):
        expected = by_modules(network, np.concatenate([used, side])[:, :, None])[:, :, 0]
        assert np.array_equal(np.concatenate(aggregation(given, side)), expected)


def test_sums_that_could_be_inexact_are_refused() -> None:
    conv = nn.Conv2d(4, 2, 3)
    conv.padding = (1, 1)
    conv.weight.data.zero_()
    conv.bias.data.zero_()
    # 2^53 in all: 2^24 of an activation, 2^16 of a weight, 2^13 of weights.
    conv.weight.data[1, :2, 0, 0] = 2.0**12
    with pytest.raises(DataError, match=r"net\.0: got weights whose sums can reach .* expected less than 2\^53"):
        layers(conv)
    conv.weight.data[1, 0, 0, 0] = 2.0**12 - 1
    layers(conv)
    for broken in (float("nan"), float("inf")):
        conv.weight.data[0, 0, 0, 0] = broken
        with pytest.raises(DataError, match=r"net\.0"):
            layers(conv)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("net.2.bias", None, "weights: lack 'net.2.bias'"),
        ("net.2.bias", (7,), r"net.2: got weights \(8, 9, 3, 3\) and biases \(7,\)"),
        ("net.2.weight", (8, 8, 3, 3), r"net.2: got weights \(8, 8, 3, 3\) .* for 9 channels"),
        ("net.2.weight", (8, 9, 2, 2), r"net.2: got weights \(8, 9, 2, 2\)"),
        ("net.2.weight", (8, 9, 3), r"net.2: got weights \(8, 9, 3\)"),
        ("net.4.bias", (), r"net.4: got weights"),
    ],
)
def test_tensors_that_do_not_fit_are_named(name: str, change: tuple[int, ...] | None, message: str) -> None:
    named = {f"net.{key}": value.detach().numpy() for key, value in lively(plain_network()).named_parameters()}
    if change is None:
        del named[name]
    else:
        named[name] = np.zeros(change, np.float32)
    with pytest.raises(DataError, match=message):
        layers_of(named, "net", Kind.PLAIN, (6, 4))


def test_ends_that_do_not_fit_are_refused() -> None:
    named = {f"net.{key}": value.detach().numpy() for key, value in lively(plain_network()).named_parameters()}
    layers_of(named, "net", Kind.PLAIN, (6, 4))
    for ends in ((5, 4), (6, 3)):
        with pytest.raises(DataError, match="expected"):
            layers_of(named, "net", Kind.PLAIN, ends)
    with pytest.raises(DataError, match="weights: lack 'other'"):
        layers_of(named, "other", Kind.PLAIN, (6, 4))
