"""The lean recipe as a whole run: one stage 1 for several rates, pairs at rates, perceptual training, then a critic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hfd.codec.codec import Codec
from hfd.data.shards import iterate_rows
from hfd.io.storage import Folder
from hfd.perceptual.lineage import networks_in_training
from pipelines.context import Silent
from pipelines.retrain import retrain
from pipelines.train.reconstruct import Rates, load_model, reconstruct
from tests.support.tiny_run import tiny_config, write_photographs

pytestmark = pytest.mark.integration

LEAN = (
    "autoencoder.residual={channels: [8, 8, 8], blocks: [0, 1, 0]}",
    "autoencoder.rates=[120, 136]",
    "decoder.process={kind: posterior-mean-flow, sigma_s: 0.1, residual_std: 0.1}",
    "decoder.lean={channels: [8, 12], blocks: [0, 1], tail: 8}",
    "decoder.neighbours_share=0",
    "decoder.rates=[122, 138]",
    "evaluate.samplers=[{}]",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def run(photographs: Path, workspace: Path, *more: str) -> Folder:
    """The model folder of a run."""
    retrain(tiny_config(photographs, workspace, *LEAN, *more), Silent())
    folders = (workspace / "train-decoder").iterdir()
    return Folder(str(max(folders, key=lambda folder: (folder / "manifest.json").stat().st_mtime)))


def test_a_run_with_a_critic_goes_on_from_one_without(photographs: Path, tmp_path: Path) -> None:
    first = run(photographs, tmp_path / "w", "decoder.perceptual={}")
    config = json.loads(first.read("decoder/config.json"))
    assert config["lean"] == {"channels": [8, 12], "blocks": [0, 1], "tail": 8} and config["steps"] == 1
    assert config["perceptual"]["critic"] is None
    stage1 = json.loads(first.read("autoencoder/config.json"))
    assert stage1["rates"] == [120.0, 136.0] and stage1["residual"]["channels"] == [8, 8, 8]

    assert "trained_on" not in config and networks_in_training(config) == ("alexnet", "vgg16")

    critic = "decoder.perceptual={lpips: 0, wasserstein: 0, critic: {widths: [8, 8]}}"
    second = run(photographs, tmp_path / "w", critic, f"decoder.warm_start={first.uri}")
    config = json.loads(second.read("decoder/config.json"))
    assert config["perceptual"]["critic"]["label"] == 0.8 and networks_in_training(config) == ("alexnet", "vgg16")
    summary = next((tmp_path / "w" / "evaluate").glob("*/summary.txt")).read_text()
    assert "Pretrained networks in the training of stage 2: AlexNet, VGG16. † LPIPS uses one of them" in summary
    codec = Codec.load(second)
    x = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    x_hat = codec.reconstruct(codec.compress(x).data)
    sample = codec.sample(x_hat, codec.default_sampling, seed=1)
    assert codec.default_sampling.steps == 1 and sample.shape == x.shape


def test_pairs_are_made_at_rates_of_the_range(photographs: Path, tmp_path: Path) -> None:
    run(photographs, tmp_path / "w", "decoder.perceptual={}")
    pairs, stage1 = ((tmp_path / "w" / name).iterdir() for name in ("reconstruct", "train-autoencoder"))
    model = load_model(str(next(stage1) / "autoencoder"), "cpu")
    rates, seen = Rates(1, (122, 138)), set()
    for row in iterate_rows(Folder(str(next(pairs))), "train", ("x", "x_hat")):
        rate = rates.of(row.id)
        assert np.array_equal(reconstruct(model, row.pictures["x"], rate), row.pictures["x_hat"])
        seen.add(rate)
    assert len(seen) > 1 and all(122 <= rate <= 138 for rate in seen)
    assert Rates(1, None).of("any") == 128
