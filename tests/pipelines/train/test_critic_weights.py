"""A decoder's critic: kept with it, taken by a training that starts from it, and carried through copies and blends."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hfd.codec.export import export_model
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights
from pipelines.context import Context, Silent
from pipelines.engine.inline import Inline
from pipelines.retrain import retrain
from pipelines.runs.step import Done
from pipelines.train import decoder as train_decoder
from pipelines.train.warm_start import warm_start
from tests.support.tiny_run import tiny_config, write_photographs
from tests.support.warm_starts import HERE, done, settings

CRITIC = "decoder.perceptual={lpips: 0, wasserstein: 0, critic: {kind: patch, channels: [8, 8]}}"
OTHER = "decoder.perceptual={lpips: 0, wasserstein: 0, critic: {kind: patch, channels: [8, 16]}}"


def key(*overrides: str) -> str:
    config = settings("decoder.adversarial=null", *overrides)
    context = Context(config, Folder("work"), Inline(config.cluster))
    return train_decoder.plan(context, done("reconstruct"), done("autoencoder")).step.key


@pytest.mark.integration
def test_a_critic_goes_on_from_training_to_training(model_folder: Folder, tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photos")

    def run(*overrides: str) -> Done:
        config = tiny_config(
            photographs, tmp_path / "w", f"autoencoder.warm_start={model_folder.uri}", "autoencoder.frozen=true",
            "decoder.adversarial=null", *overrides,
        )  # fmt: skip
        names = ("prepare", "train-autoencoder", "reconstruct", "train-decoder")
        return [retrain(config, Silent(), only=name)[-1] for name in names][-1]

    def critic_of(model: Folder) -> dict[str, torch.Tensor]:
        return read_weights(model / "decoder/critic")[0]

    plain = run(f"decoder.warm_start={model_folder.uri}").folder
    assert not plain.exists("decoder/critic/config.json")
    first = run(f"decoder.warm_start={plain.uri}", CRITIC).folder
    trained = critic_of(first)

    start, config = warm_start(first.uri, "decoder"), settings(CRITIC, "decoder.adversarial=null").decoder
    task = train_decoder.build_task(config, start, HERE)
    assert all(torch.equal(value, trained[name]) for name, value in task.critic.state_dict().items())
    other = settings(OTHER, "decoder.adversarial=null").decoder
    assert train_decoder.build_task(other, start, HERE).critic.layers[2].bias.shape == (16,)

    frozen = run(f"decoder.warm_start={first.uri}", "decoder.frozen=true").folder
    blend = run(
        f"decoder.warm_start={plain.uri}", "decoder.frozen=true", f"decoder.blend={{model: {first.uri}}}"
    ).folder
    for model in (frozen, blend):
        assert all(torch.equal(value, trained[name]) for name, value in critic_of(model).items())

    with_critic, without = Folder(str(tmp_path / "with")), Folder(str(tmp_path / "without"))
    assert export_model(first, with_critic, half=True, critic=True) == ["autoencoder", "decoder", "critic"]
    export_model(first, without, half=True)
    assert not without.exists("decoder/critic/config.json")
    assert all(torch.equal(value, trained[name].half()) for name, value in critic_of(with_critic).items())

    keys = [key(f"decoder.warm_start={one.uri}", CRITIC) for one in (with_critic, without)]
    assert keys[0] != keys[1]
    keys = [key(f"decoder.warm_start={one.uri}", OTHER) for one in (with_critic, without)]
    assert keys[0] == keys[1]
