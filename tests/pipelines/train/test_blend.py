"""The average of two decoders: its weights, keys and measures, and decoders that do not fit each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hfd.codec.codec import Codec
from hfd.config import Config
from hfd.errors import ConfigError
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights
from pipelines.context import Context, Silent
from pipelines.engine.inline import Inline
from pipelines.retrain import retrain
from pipelines.train import decoder as train_decoder
from pipelines.train.blend import blended
from pipelines.train.warm_start import warm_start
from tests.support.tiny_run import tiny_config, write_photographs
from tests.support.warm_starts import changed, done, settings


def with_blend(first: Folder, other: Folder, share: float = 0.25) -> tuple[str, ...]:
    return (
        f"decoder.warm_start={first.uri}", "decoder.frozen=true",
        f"decoder.blend={{model: {other.uri}, share: {share}}}", "decoder.adversarial=null",
    )  # fmt: skip


def key(config: Config) -> str:
    context = Context(config, Folder("work"), Inline(config.cluster))
    return train_decoder.plan(context, done("reconstruct"), done("autoencoder")).step.key


def test_the_weights_are_the_average_by_shares(model_folder: Folder, tmp_path: Path) -> None:
    """Of the weights and of twice the weights, a quarter: 1.25 times."""
    other = changed(model_folder, tmp_path)
    found = blended(warm_start(model_folder.uri, "decoder"), warm_start(other.uri, "decoder"), 0.25)
    mine = read_weights(model_folder / "decoder")[0]
    assert found.keys() == mine.keys()
    for name, value in mine.items():
        torch.testing.assert_close(found[name], 1.25 * value.float())


def test_the_key_depends_on_the_other_model_and_the_share(model_folder: Folder, tmp_path: Path) -> None:
    twice = changed(model_folder, tmp_path / "a")
    four = changed(twice, tmp_path / "b")
    plain = ("decoder.adversarial=null", f"decoder.warm_start={model_folder.uri}", "decoder.frozen=true")
    keys = [
        key(settings(*overrides))
        for overrides in (
            plain,
            with_blend(model_folder, twice),
            with_blend(model_folder, four),
            with_blend(model_folder, twice, 0.5),
        )
    ]
    assert len(set(keys)) == 4
    copy = changed(model_folder, tmp_path / "c")
    assert key(settings(*with_blend(model_folder, copy))) == keys[1]  # the place of a model is not in the key


@pytest.mark.parametrize(
    ("name", "value"), [("process", {"kind": "rectified-flow"}), ("autoencoder", "0" * 64), ("unet", {"patch": 8})]
)
def test_decoders_that_do_not_fit_are_refused_before_anything_runs(
    model_folder: Folder, tmp_path: Path, name: str, value: object
) -> None:
    other = changed(model_folder, tmp_path, **{name: value})
    with pytest.raises(ConfigError, match=r"^decoder\.blend\.model: got .* expected .* as in decoder\.warm_start"):
        key(settings(*with_blend(model_folder, other)))


def test_without_frozen_it_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"^decoder.*frozen: got false, expected true with blend"):
        settings("decoder.warm_start=desk-025", "decoder.blend={model: desk-012}")


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5])
def test_a_share_lies_between_the_decoders(share: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        settings("decoder.warm_start=a", "decoder.frozen=true", f"decoder.blend={{model: b, share: {share}}}")


@pytest.mark.integration
def test_a_run_writes_the_average_with_its_own_measures(model_folder: Folder, tmp_path: Path) -> None:
    other = changed(model_folder, tmp_path / "other", trained_on=["alexnet"])
    config = tiny_config(
        write_photographs(tmp_path / "photos"), tmp_path / "w", f"autoencoder.warm_start={model_folder.uri}",
        "autoencoder.frozen=true", *with_blend(model_folder, other),
    )  # fmt: skip
    for name in ("prepare", "train-autoencoder", "reconstruct", "train-decoder"):
        made = retrain(config, Silent(), only=name)[0]
    stored = json.loads(made.folder.read("decoder/config.json"))
    fingerprints = [warm_start(model.uri, "decoder").fingerprint for model in (model_folder, other)]
    assert stored["blend"] == {"of": fingerprints, "share": 0.25}
    assert stored["trained_on"] == ["alexnet"]
    assert stored["grain"] != json.loads(model_folder.read("decoder/config.json")).get("grain")
    assert Codec.load(made.folder).default_sampling.steps == Codec.load(model_folder).default_sampling.steps
