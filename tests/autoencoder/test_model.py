"""Stage 1 against CompressAI's own ELIC, and the parts written here against closed forms."""

from __future__ import annotations

import pytest
import torch
from compressai.entropy_models import GaussianConditional
from compressai.models.sensetime import Elic2022Official
from compressai.ops import LowerBound
from scipy.stats import norm
from torch import Tensor

from hfd.autoencoder.loss import rate_distortion
from hfd.autoencoder.model import (
    Elic,
    Stage1Output,
    checkerboard,
    gaussian_bits,
    lower_bound,
    pad_to_stride,
)
from tests.support.networks import lively_elic

N, M, GROUPS = 16, 16, (4, 4, 8)

RENAMED = {
    "h_a": "latent_codec.hyper.h_a",
    "h_s": "latent_codec.hyper.h_s",
    "entropy_bottleneck": "latent_codec.hyper.entropy_bottleneck",
}


def name_there(name: str) -> str:
    """Return CompressAI's name of the parameter ``name``."""
    head, _, tail = name.partition(".")
    if head in RENAMED:
        return f"{RENAMED[head]}.{tail}"
    index, _, tail = tail.partition(".")
    if head == "g_ch":
        return f"latent_codec.y.channel_context.y{int(index) + 1}.{tail}"
    if head == "g_sp":
        return f"latent_codec.y.latent_codec.y{index}.context_prediction.{tail}"
    if head == "param_aggregation":
        return f"latent_codec.y.latent_codec.y{index}.entropy_parameters.{tail}"
    return name


@pytest.fixture(scope="module")
def pair() -> tuple[Elic, Elic2022Official]:
    ours = lively_elic(N, M, GROUPS)
    theirs = Elic2022Official(N=N, M=M, groups=list(GROUPS)).eval()
    there = theirs.state_dict()
    here = {name_there(name): value for name, value in ours.named_parameters()}
    assert here.keys() == {name for name, _ in theirs.named_parameters()}
    theirs.load_state_dict({**there, **here})
    return ours, theirs


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (1, 128, 192), (2, 192, 64)])
@torch.no_grad()
def test_eval_forward_is_compressais(pair: tuple[Elic, Elic2022Official], batch: int, height: int, width: int) -> None:
    ours, theirs = pair
    x = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height))
    y_there = theirs.g_a(x)
    there = theirs.latent_codec(y_there)
    # The comparison is empty unless the symbols are of many kinds.
    assert y_there.round().unique().numel() > 10
    here = ours(x)

    def bits(likelihood: Tensor) -> Tensor:
        return -likelihood.double().log2().sum(dim=(1, 2, 3))

    torch.testing.assert_close(here.x_hat, theirs.g_s(there["y_hat"]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(here.bits_y.double(), bits(there["likelihoods"]["y"]), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(here.bits_z.double(), bits(there["likelihoods"]["z"]), rtol=1e-4, atol=1e-2)


def test_training_forward_trains_every_parameter() -> None:
    model = lively_elic(8, 8, (4, 4)).train()
    x = torch.rand(2, 3, 128, 64)
    output = model(x)
    rate_distortion(output, x, lmbda=0.01).loss.backward()
    silent = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not bool(parameter.grad.any())
    ]
    # The quantiles learn from the auxiliary loss alone.
    assert silent == ["entropy_bottleneck.quantiles"]


def test_training_noise_follows_the_global_generator() -> None:
    torch.manual_seed(1)
    model = Elic(8, 8, (4, 4)).train()
    x = torch.rand(1, 3, 64, 64)
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        runs.append(model(x))
    assert torch.equal(runs[0].bits_y, runs[1].bits_y)
    assert not torch.equal(runs[0].bits_y, runs[2].bits_y)
    # The distortion is that of rounded values, which no noise reaches.
    assert torch.equal(runs[0].x_hat, runs[2].x_hat)


def test_gaussian_bits_is_a_gaussian_over_unit_cells() -> None:
    residual = torch.linspace(-6, 6, 49, dtype=torch.float64).reshape(1, 1, -1)
    for scale in (0.05, 0.11, 0.3, 1.0, 2.5, 20.0):
        bounded = max(scale, 0.11)
        mass = norm.cdf((residual + 0.5) / bounded) - norm.cdf((residual - 0.5) / bounded)
        expected = -torch.as_tensor(mass).clamp(min=1e-9).log2()
        for i in range(residual.shape[-1]):
            r = residual[..., i : i + 1]
            got = float(gaussian_bits(r, torch.full_like(r, scale)))
            assert got == pytest.approx(float(expected[..., i]), rel=1e-6, abs=1e-9)


def test_gaussian_bits_and_gradients_are_compressais() -> None:
    generator = torch.Generator().manual_seed(0)
    conditional = GaussianConditional(None)

    def leaf(scale: float) -> Tensor:
        return (scale * torch.randn(2, 4, 50, generator=generator)).requires_grad_()

    residual, scales = leaf(3.0), leaf(1.0)
    here = gaussian_bits(residual, scales)
    here.sum().backward()
    grads = residual.grad, scales.grad
    residual.grad = scales.grad = None
    likelihood = conditional.likelihood_lower_bound(conditional._likelihood(residual, scales))
    there = -likelihood.log2().sum(dim=(1, 2))
    there.sum().backward()
    assert (scales < 0.11).any() and (likelihood <= 1e-9).any()
    torch.testing.assert_close(here, there)
    torch.testing.assert_close(grads, (residual.grad, scales.grad))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_lower_bound_is_compressais(sign: float) -> None:
    values = torch.linspace(-1, 1, 21)
    here, there = values.clone().requires_grad_(), values.clone().requires_grad_()
    (sign * lower_bound(here, 0.11) * values.abs()).sum().backward()
    (sign * LowerBound(0.11)(there) * values.abs()).sum().backward()
    assert torch.equal(lower_bound(here, 0.11), LowerBound(0.11)(there))
    assert torch.equal(here.grad, there.grad)


def test_checkerboard_positions() -> None:
    anchors, rest = checkerboard(3, 4, torch.device("cpu"))
    assert anchors.tolist() == [0, 2, 5, 7, 8, 10]
    assert rest.tolist() == [1, 3, 4, 6, 9, 11]


def traversal(model: Elic, z_hat: Tensor, symbols: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The entropy parameters of each of the traversal's steps when it is given these symbols (1, M, h, w)."""
    seen = []

    def code(k: int, at: Tensor, scales_hat: Tensor, means_hat: Tensor) -> Tensor:
        seen.append((scales_hat.clone(), means_hat.clone()))
        return model.group(symbols, k).flatten(2)[..., at] + means_hat

    model.traverse_latent(z_hat, code)
    return seen


@torch.no_grad()
def test_the_traversal_is_causal() -> None:
    torch.manual_seed(2)
    model = Elic(8, 12, (4, 4, 4)).eval()
    height, width = 8, 4
    z_hat = torch.randn(1, 8, 2, 1)
    symbols = torch.randint(-3, 4, (1, 12, height, width)).float()
    before = traversal(model, z_hat, symbols)
    assert len(before) == 6
    positions = checkerboard(height, width, torch.device("cpu"))
    for k in range(3):
        for phase in (0, 1):
            # Change one symbol of this step, in the middle of the latent, by a lot.
            changed = symbols.clone()
            at = int(positions[phase][len(positions[phase]) // 2])
            changed[0, 4 * k, at // width, at % width] += 50.0
            after = traversal(model, z_hat, changed)
            step = 2 * k + phase
            for i, (old, new) in enumerate(zip(before, after, strict=True)):
                same = torch.equal(old[0], new[0]) and torch.equal(old[1], new[1])
                # The second step of a group sees the first; every later group sees all of an earlier one.
                assert same is not (i > step), (step, i)


@torch.no_grad()
def test_the_traversal_visits_every_position_once() -> None:
    model = Elic(8, 8, (4, 4)).eval()
    marks = torch.arange(8 * 16, dtype=torch.float32).reshape(1, 8, 4, 4)
    y_hat = model.traverse_latent(
        torch.zeros(1, 8, 1, 1), lambda k, at, _scales, _means: model.group(marks, k).flatten(2)[..., at]
    )
    assert torch.equal(y_hat, marks)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 1), (65, 63), (100, 200)])
def test_pad_to_stride(height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width)
    padded = pad_to_stride(x)
    assert padded.shape[-2] % 64 == 0 and 0 <= padded.shape[-2] - height < 64
    assert padded.shape[-1] % 64 == 0 and 0 <= padded.shape[-1] - width < 64
    assert torch.equal(padded[..., :height, :width], x)
    assert torch.equal(padded[..., height:, :width], x[..., -1:, :].expand(-1, -1, padded.shape[-2] - height, -1))
    assert bool((padded[..., -1, -1] == x[..., -1, -1]).all())


def test_rate_distortion_by_hand() -> None:
    x = torch.zeros(2, 3, 4, 8)
    x_hat = x.clone()
    x_hat[0] += 0.5  # a squared error of 0.25 over half the batch
    output = Stage1Output(x_hat=x_hat, bits_y=torch.tensor([32.0, 64.0]), bits_z=torch.tensor([0.0, 32.0]))
    result = rate_distortion(output, x, lmbda=0.002)
    assert float(result.mse) == pytest.approx(0.125)
    assert float(result.bpp_est) == pytest.approx((32 + 96) / 2 / 32)
    assert float(result.loss) == pytest.approx(0.002 * 65025 * 0.125 + 2.0)


@torch.no_grad()
def test_reconstruct_is_clamped() -> None:
    torch.manual_seed(0)
    model = Elic(8, 8, (4, 4)).eval()
    x_hat = model.reconstruct(1000 * torch.randn(1, 8, 4, 4))
    assert x_hat.shape == (1, 3, 64, 64) and x_hat.dtype == torch.float32
    assert float(x_hat.min()) == 0.0 and float(x_hat.max()) == 1.0
