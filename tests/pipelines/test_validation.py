"""What a decoder is judged by while its model is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_run import tiny_config, write_photographs
from tiny_training import decoder_task

from hfd.storage import Folder
from pipelines.context import Silent
from pipelines.retrain import retrain
from pipelines.validation import grain_amount, validation_loss


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
    from hfd.diffusion.decoder import read_decoder

    written = read_decoder(run[3] / "decoder").config["grain"]
    assert written == grain_amount(run[3] / "decoder", run[2], torch.device("cpu")) >= 0.0
    losses = read_decoder(run[3] / "decoder").config["ema_losses"]
    assert len(losses) == 4 and all(loss > 0 for loss in losses.values())


def test_without_held_out_crops_there_is_no_grain_and_no_choice(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photos", count=4)
    config = tiny_config(
        photographs, tmp_path / "runs", "prepare.validation_share=0", f"evaluate.data={photographs}",
        "evaluate.baselines=[]", "decoder.adversarial=null",
    )  # fmt: skip
    from hfd.diffusion.decoder import read_decoder

    decoder = read_decoder(retrain(config, Silent())[3].folder / "decoder")
    assert decoder.config["grain"] == 0.0 and decoder.config["ema_losses"] == {}
