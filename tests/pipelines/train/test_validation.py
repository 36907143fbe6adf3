"""Measures of a decoder on the validation split: loss, finish and grain."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from hfd.codec.tensors import picture_to_tensor, tensor_to_picture
from hfd.config.decoder import FinishConfig
from hfd.config.presets import load_config
from hfd.data.crops import Crop
from hfd.data.shards import iterate_rows, open_shard, shard_name
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.finish import Finish
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.weights import build_network, read_decoder, write_decoder
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.metrics.spectrum import top_octave_energy
from pipelines.context import Silent
from pipelines.retrain import retrain
from pipelines.train.pairs import network_config
from pipelines.train.validation import (
    NUM_CROPS,
    finish_amounts,
    grain_amount,
    require_measurable,
    validation_loss,
    write_measured,
)
from tests.support.tiny_run import tiny_config, write_photographs
from tests.support.tiny_training import decoder_task

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[Folder]:
    """The folders of a tiny run's steps, the pairs at 2, the decoder as trained at 3."""
    scratch = tmp_path_factory.mktemp("validation")
    photographs = write_photographs(scratch / "photos")
    config = tiny_config(photographs, scratch / "runs", "evaluate.baselines=[]")
    return [done.folder for done in retrain(config, Silent())]


def test_loss_is_of_the_weights_given_and_leaves_the_network_alone(run: list[Folder]) -> None:
    task = decoder_task()
    before = {name: value.detach().clone() for name, value in task.net.named_parameters()}
    own = validation_loss(task, run[2], before)
    silent = {name: torch.zeros_like(value) for name, value in before.items()}
    # A network of zeros answers 0 and its loss is the target's mean square; so does a fresh one, whose head is zero.
    assert validation_loss(task, run[2], silent) == pytest.approx(own, rel=1e-5)
    moved = {name: value + 0.05 for name, value in before.items()}
    assert abs(validation_loss(task, run[2], moved) / own - 1) > 0.01
    assert task.net.training
    assert all(torch.equal(value, before[name]) for name, value in task.net.named_parameters())


def test_loss_is_the_same_every_time(run: list[Folder]) -> None:
    task = decoder_task()
    weights = dict(task.net.named_parameters())
    first = validation_loss(task, run[2], weights)
    torch.rand(3)
    assert validation_loss(task, run[2], weights) == first


def test_grain_is_measured_and_written_with_the_weights(run: list[Folder]) -> None:
    decoder = read_decoder(run[3] / "decoder")
    assert decoder.finish == Finish() and decoder.config["grain"] == grain_amount(decoder, run[2]) >= 0.0
    losses = decoder.config["ema_losses"]
    assert len(losses) == 4 and all(loss > 0 for loss in losses.values())


def mean_energy(folder: Folder, pairs: Folder, *, finish: bool) -> float:
    decoder, energies = read_decoder(folder), []
    for index, row in enumerate(islice(iterate_rows(pairs, "validation", ("x", "x_hat")), NUM_CROPS)):
        x_hat, settings = picture_to_tensor(row.pictures["x_hat"]), Sampling(decoder.default_steps, finish=finish)
        sample = decoder.sample(x_hat, settings, seeds=[index])
        energies.append(top_octave_energy(row.pictures["x"], tensor_to_picture(sample)))
    return float(np.mean(energies))


SMALL = "decoder.lean={channels: [8, 12], blocks: [0, 1], tail: 8}"


def blurred_pairs(folder: Folder) -> Folder:
    """Held-out crops of noise whose reconstructions are blurred copies."""
    rng = np.random.default_rng(0)
    with open_shard(folder, shard_name("validation", 0, 1), ("x", "x_hat")) as writer:
        for index in range(3):
            x = rng.integers(40, 216, (96, 96, 3), dtype=np.uint8)
            x_hat = np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(0.6)))
            writer.add(Crop(str(index), str(index), str(index), {"x": x, "x_hat": x_hat}))
    return folder


def untrained() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A start without noise and a fresh network, which adds nothing: the sample is x_hat."""
    settings = load_config("desk", ["data.uri=photos", "decoder.process.sigma_s=0.0001", SMALL]).decoder
    network = network_config(settings)
    return dict(build_network(network).named_parameters()), {**network, "autoencoder": "", "steps": 1}


def decoder_of(folder: Folder) -> ScoreDecoder:
    write_decoder(folder, *untrained())
    return read_decoder(folder)


def test_finish_restores_the_share_of_the_energy_that_was_asked_for(tmp_path: Path) -> None:
    pairs, out = blurred_pairs(Folder(str(tmp_path / "pairs"))), Folder(str(tmp_path / "decoder"))
    tensors, rest = untrained()

    def written(finish: FinishConfig) -> ScoreDecoder:
        write_measured(out, tensors, rest, finish, pairs, torch.device("cpu"))
        return read_decoder(out)

    found = written(FinishConfig(restore=0.5, chroma_noise=0.0))
    before, after = (mean_energy(out, pairs, finish=on) for on in (False, True))
    assert before < 0.7
    assert after == pytest.approx((1.0 + before) / 2.0, abs=0.01)
    assert found.config["grain"] == grain_amount(found, pairs) > 0.0
    assert written(FinishConfig(restore=0.0)).finish == Finish(0.0, 1.2)


@pytest.mark.parametrize("crops", ["none", "flat", "detailed"])
def test_a_finish_without_crops_to_measure_it_on_is_one_line_before_the_training(tmp_path: Path, crops: str) -> None:
    pairs, finish = Folder(str(tmp_path / "pairs")), FinishConfig(restore=0.5)
    if crops == "detailed":
        require_measurable(finish, blurred_pairs(pairs))
        return
    pairs.path.mkdir()
    if crops == "flat":
        flat = np.full((64, 64, 3), 90, np.uint8)
        with open_shard(pairs, shard_name("validation", 0, 1), ("x",)) as writer:
            writer.add(Crop("0", "0", "0", {"x": flat}))
    for needless in (None, FinishConfig(restore=0.0)):
        require_measurable(needless, pairs)
    with pytest.raises(DataError) as caught:
        require_measurable(finish, pairs)
    assert str(caught.value) == (
        "decoder.finish.restore: got 0.5 without a held-out crop with fine detail, expected one to measure it on. "
        "Give more photographs or a larger prepare.validation_share, or set decoder.finish=null"
    )
    if crops == "none":
        with pytest.raises(DataError, match=r"^decoder\.finish\.restore"):
            finish_amounts(decoder_of(Folder(str(tmp_path / "decoder"))), finish, pairs)


def test_a_run_of_too_few_photographs_for_a_finish_stops_after_prepare(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photos", count=2)
    config = tiny_config(
        photographs, tmp_path / "runs", "prepare.validation_share=1e-9", f"evaluate.data={photographs}",
        "decoder.finish={restore: 0.5}",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"^decoder\.finish\.restore: got 0\.5 without a held-out crop"):
        retrain(config, Silent())
    assert not (tmp_path / "runs/train-autoencoder").exists()


def test_without_held_out_crops_there_is_no_grain_and_no_choice(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photos", count=4)
    config = tiny_config(
        photographs, tmp_path / "runs", "prepare.validation_share=0", f"evaluate.data={photographs}",
        "evaluate.baselines=[]", "decoder.adversarial=null",
    )  # fmt: skip
    decoder = read_decoder(retrain(config, Silent())[3].folder / "decoder")
    assert decoder.config["grain"] == 0.0 and decoder.config["ema_losses"] == {}
