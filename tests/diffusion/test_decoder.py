"""Stage 2 as a whole: x_hat to sample, and its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import lively_unet
from torch import Tensor

from hfd.diffusion.decoder import ScoreDecoder, read_decoder, write_decoder
from hfd.diffusion.process import Diffusion
from hfd.diffusion.schedule import CosineSchedule
from hfd.errors import DataError
from hfd.storage import Folder

CONFIG = {
    "kind": "diffusion",
    "s": 0.5,
    "unet": {"patch": 4, "channels": [16, 16], "blocks": [1, 1]},
    "autoencoder": "0123",
}


@pytest.fixture
def decoder() -> ScoreDecoder:
    return ScoreDecoder(lively_unet(), Diffusion(CosineSchedule(0.5)), CONFIG, "00")


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
    sample = decoder.sample(x_hat, seeds=[1], steps=3, precision="float32", on_step=steps.append)
    assert sample.shape == x_hat.shape and sample.dtype == torch.float32
    assert float(sample.min()) >= 0.0 and float(sample.max()) <= 1.0
    assert steps == [0, 1, 2]


def test_samples_follow_their_seed_and_their_picture(decoder: ScoreDecoder) -> None:
    x_hat = reconstructions(32, 32)

    def sample(seed: int, picture: Tensor, gamma: float = 0.0) -> Tensor:
        return decoder.sample(picture, seeds=[seed], steps=4, gamma=gamma, precision="float32")

    first = sample(1, x_hat)
    assert float(first.std()) > 0.05
    assert torch.equal(first, sample(1, x_hat))
    for other in (sample(2, x_hat), sample(1, 1 - x_hat), sample(1, x_hat, gamma=1.0)):
        assert float((first - other).abs().mean()) > 0.01


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_batch_of_one_is_batch_of_many(decoder: ScoreDecoder, gamma: float) -> None:
    """To 1e-4, 1/40 of a grey level: convolutions may sum in another order for another batch size."""
    x_hat = reconstructions(40, 24, batch=3)
    seeds = [10, 20, 30]
    together = decoder.sample(x_hat, seeds=seeds, steps=8, gamma=gamma, precision="float32")
    for i, seed in enumerate(seeds):
        alone = decoder.sample(x_hat[i : i + 1], seeds=[seed], steps=8, gamma=gamma, precision="float32")
        assert float((alone[0] - together[i]).abs().max()) < 1e-4


def test_sample_pads_by_replication(decoder: ScoreDecoder) -> None:
    x_hat = reconstructions(29, 34)
    padded = torch.nn.functional.pad(x_hat, (0, 6, 0, 3), mode="replicate")
    small = decoder.sample(x_hat, seeds=[4], steps=3, precision="float32")
    large = decoder.sample(padded, seeds=[4], steps=3, precision="float32")
    assert torch.equal(small, large[..., :29, :34])


def test_one_step_is_the_denoiser_at_pure_noise(decoder: ScoreDecoder) -> None:
    x_hat = reconstructions(32, 32)
    sample = decoder.sample(x_hat, seeds=[0], steps=1, precision="float32")
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x0 = decoder.denoise(noise, torch.ones(1), 2 * x_hat - 1, precision="float32")
    torch.testing.assert_close(sample, (x0 + 1) / 2, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_denoise_is_the_processs_reading_of_the_network(decoder: ScoreDecoder) -> None:
    t = torch.tensor([0.1, 0.9])
    x_t, x_hat = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    output = decoder.net(x_t, x_hat, decoder.process.noise_level(t))
    expected = decoder.process.x0_pred(x_t, output, t).clamp(-1, 1)
    got = decoder.denoise(x_t, t, x_hat, precision="float32")
    torch.testing.assert_close(got, expected)
    rough = decoder.denoise(x_t, t, x_hat, precision="bfloat16")
    assert rough.dtype == torch.float32
    assert 0.0 < float((rough - expected).abs().mean()) < 0.02


def test_round_trip(folder: Folder, decoder: ScoreDecoder) -> None:
    back = read_decoder(folder)
    assert dict(back.config) == {"format": 1, **CONFIG}
    assert back.process == decoder.process
    assert not back.net.training and not any(value.requires_grad for value in back.net.parameters())
    theirs = dict(back.net.named_parameters())
    assert all(torch.equal(theirs[name], value) for name, value in decoder.net.named_parameters())
    x_hat = reconstructions(32, 32)
    here, there = (one.sample(x_hat, seeds=[3], steps=2, precision="float32") for one in (decoder, back))
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


def edited(folder: Folder, edit: Callable[[dict], object]) -> Folder:
    config = json.loads(folder.read("config.json"))
    edit(config)
    folder.write("config.json", json.dumps(config).encode())
    return folder


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config.pop("s"), "lacks 's'"),
        (lambda config: config.pop("unet"), "lacks 'unet'"),
        (lambda config: config["unet"].pop("patch"), "lacks 'patch'"),
        (lambda config: config.update(kind="flow"), "kind: got 'flow', expected 'diffusion'"),
        (lambda config: config.update(s="low"), "describes no network"),
        (lambda config: config.update(unet=3), "describes no network"),
        (lambda config: config["unet"].update(blocks=[1]), "describes no network"),
        (lambda config: config["unet"].update(blocks=[1, 2]), "missing down.1.1.conv1.bias"),
        (lambda config: config["unet"].update(channels=[16, 8]), r"is \(16, 16, 3, 3\), expected"),
        (lambda config: config.update(format=0), "got format 0, expected 1"),
    ],
)
def test_configurations_that_do_not_fit_are_named(folder: Folder, edit: Callable[[dict], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_decoder(edited(folder, edit))
