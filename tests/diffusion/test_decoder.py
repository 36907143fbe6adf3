"""The stage-2 decoder: sampling from x_hat, and its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hfd.diffusion.decoder import DEFAULT_STEPS, ScoreDecoder, build_process
from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.grain import add_grain
from hfd.diffusion.neighbours import known_pixels
from hfd.diffusion.process import Process
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.schedule import CosineSchedule
from hfd.diffusion.vp import Diffusion, ResidualDiffusion
from hfd.diffusion.weights import read_decoder, write_decoder
from hfd.errors import DataError
from hfd.geometry.tiles import cut_into_tiles
from hfd.io.storage import Folder
from tests.support.networks import lively_unet

DIFFUSION = {"kind": "diffusion", "s": 0.5, "predict": "v", "loss": "v", "min_snr": 5.0}
TIMES = {"times": "uniform", "times_mean": 0.0, "times_std": 1.0}
CONFIG: dict[str, Any] = {
    "process": DIFFUSION,
    "unet": {"patch": 4, "channels": [16, 16], "blocks": [1, 1]},
    "autoencoder": "0123",
}

PROCESSES: list[tuple[dict[str, Any], Process]] = [
    (DIFFUSION, Diffusion(CosineSchedule(0.5))),
    (
        {"kind": "diffusion", "s": 1, "predict": "eps", "loss": "min-snr", "min_snr": 3},
        Diffusion(CosineSchedule(1.0), "eps", "min-snr", 3.0),
    ),
    (
        {**DIFFUSION, "kind": "residual-diffusion", "residual_std": 0.2},
        ResidualDiffusion(CosineSchedule(0.5), residual_std=0.2),
    ),
    ({"kind": "rectified-flow", **TIMES}, RectifiedFlow()),
    (
        {"kind": "rectified-flow", "times": "logit-normal", "times_mean": 0.5, "times_std": 2.0},
        RectifiedFlow("logit-normal", 0.5, 2.0),
    ),
    ({"kind": "posterior-mean-flow", "sigma_s": 0.3, **TIMES}, PosteriorMeanFlow(sigma_s=0.3)),
]


def made(process: Process | None = None, **config: Any) -> ScoreDecoder:
    return ScoreDecoder(lively_unet(), process or Diffusion(CosineSchedule(0.5)), {**CONFIG, **config}, "00")


@pytest.fixture
def decoder() -> ScoreDecoder:
    return made()


@pytest.fixture
def folder(tmp_path: Path, decoder: ScoreDecoder) -> Folder:
    folder = Folder(str(tmp_path / "decoder"))
    write_decoder(folder, dict(decoder.net.named_parameters()), CONFIG)
    return folder


def reconstructions(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(32, 40), (1, 1), (33, 47), (8, 71)])
def test_sample_keeps_size_and_range(decoder: ScoreDecoder, height: int, width: int) -> None:
    x_hat = reconstructions(height, width)
    steps: list[int] = []
    sample = decoder.sample(x_hat, Sampling(steps=3), seeds=[1], precision="float32", on_step=steps.append)
    assert sample.shape == x_hat.shape and sample.dtype == torch.float32
    assert float(sample.min()) >= 0.0 and float(sample.max()) <= 1.0
    assert steps == [0, 1, 2]


def test_samples_follow_their_seed_their_picture_and_their_settings(decoder: ScoreDecoder) -> None:
    x_hat = reconstructions(32, 32)

    def sample(seed: int, picture: Tensor, **settings: Any) -> Tensor:
        return decoder.sample(picture, Sampling(4, **settings), seeds=[seed], precision="float32")

    first = sample(1, x_hat)
    assert float(first.std()) > 0.05
    assert torch.equal(first, sample(1, x_hat))
    others = [sample(2, x_hat), sample(1, 1 - x_hat), sample(1, x_hat, gamma=1.0), sample(1, x_hat, kind="ddim")]
    assert all(float((first - other).abs().mean()) > 0.01 for other in others)


@pytest.mark.parametrize(("precision", "worst", "mean"), [("float32", 1e-5, 1e-6), ("bfloat16", 0.03, 0.006)])
@pytest.mark.parametrize("settings", [Sampling(1), Sampling(8), Sampling(8, gamma=1.0)])
def test_a_batch_of_eight_is_eight_of_one(
    decoder: ScoreDecoder, settings: Sampling, precision: str, worst: float, mean: float
) -> None:
    """Up to rounding: convolutions may sum in another order for another batch. Two to three times what was measured."""
    x_hat, seeds = reconstructions(40, 24, batch=8), [3, 1, 4, 15, 9, 2, 6, 5]
    together = decoder.sample(x_hat, settings, seeds=seeds, precision=precision)
    for i in (0, 3, 7):
        alone = decoder.sample(x_hat[i : i + 1], settings, seeds=seeds[i : i + 1], precision=precision)
        error = (alone[0] - together[i]).abs()
        assert float(error.max()) < worst and float(error.mean()) < mean


def test_sample_pads_by_replication(decoder: ScoreDecoder) -> None:
    x_hat = reconstructions(29, 34)
    padded = torch.nn.functional.pad(x_hat, (0, 6, 0, 3), mode="replicate")
    small, large = (decoder.sample(one, Sampling(3), seeds=[4], precision="float32") for one in (x_hat, padded))
    assert torch.equal(small, large[..., :29, :34])


def test_one_step_is_the_denoiser_at_pure_noise(decoder: ScoreDecoder) -> None:
    x_hat = reconstructions(32, 32)
    sample = decoder.sample(x_hat, Sampling(1), seeds=[0], precision="float32")
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x0 = decoder.denoise(noise, torch.ones(1), 2 * x_hat - 1, precision="float32")
    torch.testing.assert_close(sample, (x0 + 1) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grain", [False, True])
def test_realism_is_the_way_from_x_hat_to_the_sample(grain: bool) -> None:
    decoder, x_hat = made(grain=0.5), reconstructions(33, 40, batch=2)

    def sample(realism: float) -> Tensor:
        settings = Sampling(2, realism=realism, grain=grain)
        return decoder.sample(x_hat, settings, seeds=[1, 2], precision="float32")

    full = sample(1.0)
    assert torch.equal(sample(0.0), x_hat)
    assert torch.equal(full, decoder.sample(x_hat, Sampling(2, grain=grain), seeds=[1, 2], precision="float32"))
    assert float((full - x_hat).abs().mean()) > 0.1
    for realism in (0.25, 0.7):
        torch.testing.assert_close(sample(realism), (1 - realism) * x_hat + realism * full, rtol=0.0, atol=1e-6)


def test_grain_is_added_to_the_sample_where_it_is_asked_for() -> None:
    x_hat, seeds = reconstructions(30, 41, batch=2), [8, 9]
    decoder = made(grain=0.4)
    plain, grainy = (
        decoder.sample(x_hat, Sampling(2, grain=grain), seeds=seeds, precision="float32") for grain in (False, True)
    )
    assert float((plain - grainy).abs().mean()) > 1e-3
    assert torch.equal(grainy, add_grain(plain, 0.4, seeds=seeds))
    assert torch.equal(decoder.add_grain(plain, seeds=seeds), grainy)
    assert torch.equal(decoder.add_grain(plain, seeds=seeds, amount=0.9), add_grain(plain, 0.9, seeds=seeds))
    assert torch.equal(decoder.add_grain(plain, seeds=seeds, amount=0.0), plain)
    # A decoder of which nothing was measured lacks nothing.
    assert torch.equal(made().add_grain(plain, seeds=seeds), plain)


def test_default_steps_are_the_decoders_own() -> None:
    assert made().default_steps == DEFAULT_STEPS == 50
    assert made(steps=2).default_steps == 2


@torch.no_grad()
def test_denoise_is_the_processs_reading_of_the_network(decoder: ScoreDecoder) -> None:
    t = torch.tensor([0.1, 0.9])
    x_t, x_hat = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    level = decoder.process.noise_level(t)
    expected = decoder.process.x0_pred(x_t, decoder.net(x_t, x_hat, level), t).clamp(-1, 1)
    got = decoder.denoise(x_t, t, x_hat, precision="float32")
    torch.testing.assert_close(got, expected)
    rough = decoder.denoise(x_t, t, x_hat, precision="bfloat16")
    assert rough.dtype == torch.float32
    assert 0.0 < float((rough - expected).abs().mean()) < 0.02
    known = known_pixels(x_t.flip(0), torch.ones(2, 1, 32, 32).tril())
    expected = decoder.process.x0_pred(x_t, decoder.net(x_t, x_hat, level, known), t).clamp(-1, 1)
    torch.testing.assert_close(decoder.denoise(x_t, t, x_hat, known=known, precision="float32"), expected)
    assert float((expected - got).abs().mean()) > 0.01


def test_a_sample_goes_on_from_known_pixels() -> None:
    """They reach every evaluation, padded as unknown up to the stride, and by tiles as at once."""
    decoder = ScoreDecoder(lively_unet(2, (8, 8)), Diffusion(CosineSchedule(0.5)), CONFIG, "00")
    x_hat = torch.rand(1, 3, 141, 133, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 141, 133)
    mask[..., :60] = 1.0
    known = known_pixels(x_hat.flip(3) * 2 - 1, mask)
    settings, seen = Sampling(2), []

    def keep(_module: object, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[3])

    free = decoder.sample(x_hat, settings, seeds=[0], precision="float32")
    with decoder.net.register_forward_pre_hook(keep):
        told = decoder.sample(x_hat, settings, seeds=[0], precision="float32", known=known)
    assert [tuple(there.shape) for there in seen] == [(1, 4, 144, 136)] * 2
    for there in seen:
        assert torch.equal(there[..., :141, :133], known)
        assert not there[..., 141:, :].any() and not there[..., 133:].any()
    assert float((told - free).abs().mean()) > 1e-3
    tiles = cut_into_tiles(144, 136, decoder.net.receptive_field_px, decoder.net.stride, max_pixels=100 * 136)
    assert len(tiles) > 1
    by_tiles = decoder.sample(x_hat, settings, seeds=[0], precision="float32", known=known, tiles=tiles)
    torch.testing.assert_close(by_tiles, told, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(("section", "process"), PROCESSES)
def test_round_trip(tmp_path: Path, section: dict[str, Any], process: Process) -> None:
    config = {**CONFIG, "process": section, "steps": 3, "grain": 0.25}
    decoder, folder = made(process, steps=3, grain=0.25), Folder(str(tmp_path))
    write_decoder(folder, dict(decoder.net.named_parameters()), config)
    back = read_decoder(folder)
    assert dict(back.config) == {"format": 1, **config}
    assert back.process == process and back.default_steps == 3
    assert not back.net.training and not any(value.requires_grad for value in back.net.parameters())
    theirs = dict(back.net.named_parameters())
    assert all(torch.equal(theirs[name], value) for name, value in decoder.net.named_parameters())
    x_hat, settings = reconstructions(32, 32), Sampling(2, grain=True)
    here, there = (one.sample(x_hat, settings, seeds=[3], precision="float32") for one in (decoder, back))
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-3)  # weights lie in memory in another order


def test_the_fingerprint_is_of_weights_and_configuration(tmp_path: Path, decoder: ScoreDecoder) -> None:
    weights = dict(decoder.net.named_parameters())
    moved = {name: value + 1.0 for name, value in weights.items()}
    made_of = [(weights, CONFIG), (weights, CONFIG), (moved, CONFIG), (weights, {**CONFIG, "grain": 0.1})]
    prints = []
    for index, (tensors, config) in enumerate(made_of):
        write_decoder(Folder(str(tmp_path / str(index))), tensors, config)
        prints.append(read_decoder(Folder(str(tmp_path / str(index)))).fingerprint)
    assert prints[0] == prints[1] and len(set(prints)) == 3


@pytest.mark.parametrize(("section", "process"), PROCESSES)
def test_a_process_needs_every_key_of_its_section(section: dict[str, Any], process: Process) -> None:
    assert build_process(section) == process
    for key in section:
        with pytest.raises(KeyError, match=key):
            build_process({name: value for name, value in section.items() if name != key})


def edited(folder: Folder, edit: Callable[[dict], object]) -> Folder:
    config = json.loads(folder.read("config.json"))
    edit(config)
    folder.write("config.json", json.dumps(config).encode())
    return folder


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config.pop("process"), "lacks 'process'"),
        (lambda config: config["process"].pop("kind"), "lacks 'kind'"),
        (lambda config: config["process"].pop("s"), "lacks 's'"),
        (lambda config: config["process"].pop("predict"), "lacks 'predict'"),
        (lambda config: config.update(process={"kind": "posterior-mean-flow", **TIMES}), "lacks 'sigma_s'"),
        (lambda config: config.pop("unet"), "lacks 'unet'"),
        (lambda config: config["unet"].pop("patch"), "lacks 'patch'"),
        (
            lambda config: config["process"].update(kind="flow"),
            "kind: got 'flow', expected 'diffusion', 'residual-diffusion', 'rectified-flow' or 'posterior-mean-flow'. "
            "Use a newer hfd",
        ),
        (lambda config: config["process"].update(predict="u"), "predict: got 'u', expected 'v', 'eps' or 'x0'"),
        (
            lambda config: config["process"].update(loss="u"),
            "loss: got 'u', expected 'v', 'eps', 'x0' or 'min-snr'",
        ),
        (
            lambda config: config.update(process={"kind": "rectified-flow", **TIMES, "times": "late"}),
            "times: got 'late', expected 'uniform' or 'logit-normal'. Use a newer hfd",
        ),
        (lambda config: config["process"].update(s="low"), "describes no network"),
        (lambda config: config.update(process=3), "describes no network"),
        (lambda config: config.update(unet=3), "describes no network"),
        (lambda config: config["unet"].update(blocks=[1]), "describes no network"),
        (lambda config: config["unet"].update(blocks=[1, 2]), "missing down.1.1.conv1.bias"),
        (lambda config: config["unet"].update(channels=[16, 8]), "is (16, 16, 3, 3), expected"),
        (lambda config: config.update(format=0), "got format 0, expected 1"),
    ],
)
def test_configurations_that_do_not_fit_are_named(folder: Folder, edit: Callable[[dict], object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_decoder(edited(folder, edit))
    assert message in str(caught.value) and "\n" not in str(caught.value)
