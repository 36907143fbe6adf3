"""The fused normalisation is the formula, and its gradients are the formula's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hfd.autoencoder.library import GDN
from hfd.autoencoder.model import Elic
from hfd.autoencoder.normalisation import FusedGdn, fuse_gdn

Layout = Callable[[Tensor], Tensor]


def layer(channels: int, inverse: bool, kind: type[GDN] = FusedGdn) -> GDN:
    """Of random weights, some of which are below their bounds."""
    torch.manual_seed(0)
    made = kind(channels, inverse=inverse)
    with torch.no_grad():
        made.gamma.add_(0.3 * torch.rand_like(made.gamma) - 0.1)
        made.beta.mul_(torch.rand_like(made.beta) + 0.5)
    return made


def formula(gdn: GDN, x: Tensor) -> Tensor:
    """From the stored parameters, in float64, by a sum over channels."""
    pedestal = 2.0**-36
    beta = gdn.beta.double().clamp(min=(1e-6 + pedestal) ** 0.5) ** 2 - pedestal
    gamma = gdn.gamma.double().clamp(min=pedestal**0.5) ** 2 - pedestal
    energy = beta.reshape(1, -1, 1, 1) + torch.einsum("ij,bjhw->bihw", gamma, x.double() ** 2)
    return x.double() * energy ** (0.5 if gdn.inverse else -0.5)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def cut(x: Tensor) -> Tensor:
    """In no memory of its own."""
    return torch.cat([x, x], dim=3)[..., : x.shape[3]]


@pytest.mark.parametrize("layout", [torch.clone, channels_last, cut])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (3, 6, 30, 40), (2, 6, 1, 1025)])
def test_it_is_the_formula(shape: tuple[int, ...], inverse: bool, layout: Layout) -> None:
    gdn, x = layer(6, inverse), layout(torch.randn(shape))
    expected = formula(gdn, x)
    before = x.clone()
    torch.testing.assert_close(gdn(x).double(), expected, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(gdn(x).double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(x, before)
    torch.testing.assert_close(gdn.in_place(x.clone()).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_by_differences(inverse: bool) -> None:
    """Of the picture and of both parameters, where these are above their bounds, in float64."""
    gdn = layer(3, inverse).double()
    with torch.no_grad():
        gdn.gamma.abs_().add_(0.1)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)

    def of(x: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(gdn, {"beta": beta, "gamma": gamma}, x)
        return found

    assert torch.autograd.gradcheck(of, (x, gdn.beta, gdn.gamma))


@pytest.mark.parametrize("layout", [torch.clone, channels_last])
@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_the_plain_layer(inverse: bool, layout: Layout) -> None:
    """Over more positions than are normalised at once, and with parameters below their bounds."""
    x, weights = torch.randn(2, 5, 40, 50), torch.randn(2, 5, 40, 50)
    found = []
    for kind in (FusedGdn, GDN):
        gdn, values = layer(5, inverse, kind), layout(x.clone()).requires_grad_()
        (gdn(values) * weights).sum().backward()
        found.append([values.grad, gdn.beta.grad, gdn.gamma.grad])
    for here, there in zip(*found, strict=True):
        assert float(there.abs().max()) > 0.1
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4 * float(there.abs().max()))


@pytest.mark.parametrize("inverse", [False, True])
def test_under_autocast_sums_are_in_float32(inverse: bool) -> None:
    gdn, conv = layer(8, inverse), nn.Conv2d(8, 8, 1)
    x = torch.randn(1, 8, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        inner = conv(x)
        out = gdn(inner)
        out.float().sum().backward()
    assert inner.dtype == out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), formula(gdn, inner), rtol=2**-8, atol=0.0)
    for parameter in (*gdn.parameters(), *conv.parameters()):
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()) and bool(parameter.grad.any())


@pytest.mark.parametrize("inverse", [False, True])
def test_for_a_compiler_it_is_written_out(inverse: bool) -> None:
    """In one graph, with the values and gradients of the loop, and under autocast in the type of the input."""
    x, weights = torch.randn(2, 5, 40, 50), torch.randn(2, 5, 40, 50)
    found = []
    for compiled in (False, True):
        gdn, values = layer(5, inverse), x.clone().requires_grad_()
        run = torch.compile(gdn, backend="aot_eager", fullgraph=True) if compiled else gdn
        out = run(values)
        (out * weights).sum().backward()
        found.append([out.detach(), values.grad, gdn.beta.grad, gdn.gamma.grad])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4 * float(there.abs().max()))
    with torch.autocast("cpu", torch.bfloat16):
        half = run(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), formula(gdn, x.bfloat16()), rtol=2**-6, atol=0.0)


def test_shapes_need_no_memory() -> None:
    gdn, x = layer(4, False).to("meta"), torch.empty(2, 4, 3, 5, device="meta", requires_grad=True)
    out = gdn(x)
    out.sum().backward()
    assert out.shape == x.shape and x.grad is not None and x.grad.is_meta


def test_second_derivatives_are_refused() -> None:
    x = torch.randn(1, 4, 2, 2, requires_grad=True)
    (first,) = torch.autograd.grad(layer(4, False)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_new_network_begins_as_with_the_plain_layer() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 6, 1), GDN(6), nn.Conv2d(6, 6, 1), GDN(6, inverse=True))
    expected = {name: value.clone() for name, value in plain.state_dict().items()}
    fused = fuse_gdn(plain)
    assert [type(module) for module in fused][1::2] == [FusedGdn, FusedGdn]
    assert [module.inverse for module in fused[1::2]] == [False, True]
    assert fused.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in fused.state_dict().items())


def test_the_autoencoder_uses_it() -> None:
    model = Elic(8, 8, (8,), gdn_channels=8)
    layers = [module for module in model.modules() if isinstance(module, GDN)]
    assert len(layers) == 6 and all(isinstance(module, FusedGdn) for module in layers)
