"""Trainings that start from a model: its weights, the step's key, and weights that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hfd.autoencoder.weights import read_autoencoder
from hfd.diffusion.weights import read_decoder
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights, write_weights
from pipelines.context import Context
from pipelines.engine.inline import Inline
from pipelines.train import autoencoder as train_autoencoder
from pipelines.train import decoder as train_decoder
from pipelines.train import finetune as finetune_decoder
from pipelines.train.warm_start import warm_start
from tests.support.warm_starts import SECTIONS, TRAININGS, built, done, settings


def edited(model: Folder, part: str, to: Path, edit: Callable[[Tensor], Tensor]) -> Folder:
    """A model of this part alone, with other weights."""
    tensors, config, _ = read_weights(model / part)
    folder = Folder(str(to))
    new = {name: edit(value) if value.is_floating_point() else value for name, value in tensors.items()}
    write_weights(folder / part, new, config)
    if part != "autoencoder":
        for name in ("config.json", "weights.safetensors"):
            folder.write(f"autoencoder/{name}", model.read(f"autoencoder/{name}"))
    return folder


@pytest.mark.parametrize("training", list(TRAININGS))
def test_a_training_begins_with_the_models_weights(model_folder: Folder, training: str) -> None:
    part = TRAININGS[training]
    stored = (
        read_autoencoder(model_folder / part).model if part == "autoencoder" else read_decoder(model_folder / part).net
    )
    warm, cold = (
        dict(built(training, settings(), start).named_parameters())
        for start in (warm_start(model_folder.uri, part), warm_start(None, part))
    )
    expected = dict(stored.named_parameters())
    assert warm.keys() == expected.keys()
    assert all(torch.equal(warm[name], value) for name, value in expected.items())
    assert all(value.requires_grad for value in warm.values())
    assert not all(torch.equal(cold[name], value) for name, value in expected.items())


@pytest.mark.parametrize("training", list(TRAININGS))
def test_weights_in_half_precision_are_taken(model_folder: Folder, training: str, tmp_path: Path) -> None:
    part = TRAININGS[training]
    half = edited(model_folder, part, tmp_path, Tensor.half)
    tensors, _, _ = read_weights(half / part)
    for name, value in built(training, settings(), warm_start(half.uri, part)).named_parameters():
        assert value.dtype == torch.float32 and torch.equal(value, tensors[name].float())


def keys(*overrides: str) -> dict[str, str]:
    config = settings(*overrides)
    context = Context(config, Folder("work"), Inline(config.cluster))
    steps = [
        train_autoencoder.plan(context, done("prepare")),
        train_decoder.plan(context, done("reconstruct"), done("autoencoder")),
        finetune_decoder.plan(context, done("reconstruct"), done("autoencoder"), done("decoder")),
    ]
    return dict(zip(TRAININGS, (one.step.key for one in steps), strict=True))


@pytest.mark.parametrize("training", list(TRAININGS))
def test_a_steps_key_depends_on_the_weights_and_not_on_their_place(
    model_folder: Folder, training: str, tmp_path: Path
) -> None:
    part = TRAININGS[training]
    copy, other = (
        edited(model_folder, part, tmp_path / name, edit)
        for name, edit in (("copy", lambda value: value), ("other", lambda value: value * 1.5))
    )
    cold, warm, copied, changed = (
        keys(f"{SECTIONS[training]}.warm_start={uri}") for uri in ("null", model_folder.uri, copy.uri, other.uri)
    )
    assert {name for name in TRAININGS if cold[name] != warm[name]} == {training}
    assert warm == copied
    assert len({cold[training], warm[training], changed[training]}) == 3


@pytest.mark.parametrize(
    ("training", "override", "message"),
    [
        ("autoencoder", "autoencoder.N=24", r"weights do not fit the network: g_a\.0\.weight is \(16, 3, 5, 5\)"),
        ("decoder", "decoder.unet.channels=[16, 24]", r"is \(16, 16, 3, 3\), expected \(24, 24, 3, 3\)"),
        ("finetune", "decoder.unet.blocks=[1, 2]", r"weights do not fit the network: missing down\.1\.1\.conv1"),
    ],
)
def test_another_network_is_refused_by_name(model_folder: Folder, training: str, override: str, message: str) -> None:
    start = warm_start(model_folder.uri, TRAININGS[training])
    with pytest.raises(DataError, match=message) as caught:
        built(training, settings(override), start)
    assert str(caught.value).startswith(f"{model_folder.uri}/") and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["autoencoder", "decoder"])
def test_an_unknown_model_is_one_line(tmp_path: Path, part: str) -> None:
    for name in ("no-such-model", str(tmp_path), f"{tmp_path}/missing"):
        with pytest.raises(DataError) as caught:
            warm_start(name, part)
        assert str(caught.value).startswith(f"{name}: got no model there, expected ")
        assert "\n" not in str(caught.value)


def test_a_model_without_a_decoder_starts_none(model_folder: Folder, tmp_path: Path) -> None:
    folder = edited(model_folder, "autoencoder", tmp_path, lambda value: value)
    assert warm_start(folder.uri, "autoencoder").fingerprint
    with pytest.raises(DataError, match=r"decoder/config\.json: got no such file"):
        warm_start(folder.uri, "decoder")
