"""Distillation as a step of a run: the teacher, keys, what the model says of itself, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hfd.codec.codec import Codec
from hfd.config import Config
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.weights import read_decoder
from hfd.errors import ConfigError
from hfd.io.storage import Folder
from hfd.training.distillation import DistillTask
from pipelines.context import Context, Silent
from pipelines.engine.inline import Inline
from pipelines.retrain import retrain
from pipelines.train import decoder as train_decoder
from pipelines.train.warm_start import warm_start
from tests.support.tiny_run import tiny_config, write_photographs
from tests.support.warm_starts import HERE, changed, done, settings


def distilled(teacher: str, *more: str) -> Config:
    return settings(f"decoder.distill={{teacher: {teacher}, teacher_steps: 4}}", *more)


def built(teacher: str, *more: str, start: str | None = None) -> DistillTask:
    config = distilled(teacher, *more).decoder
    torch.manual_seed(1)
    task = train_decoder.build_task(config, warm_start(start, "decoder"), HERE, warm_start(teacher, "decoder"))
    assert isinstance(task, DistillTask)
    return task


def key(config: Config) -> str:
    context = Context(config, Folder("work"), Inline(config.cluster))
    return train_decoder.plan(context, done("reconstruct"), done("autoencoder")).step.key


def test_a_student_of_the_same_network_begins_as_its_teacher(model_folder: Folder, tmp_path: Path) -> None:
    teacher = dict(read_decoder(model_folder / "decoder").net.named_parameters())

    def begins_as_it(task: DistillTask) -> bool:
        own = dict(task.net.named_parameters())
        return own.keys() == teacher.keys() and all(torch.equal(own[name], teacher[name]) for name in own)

    assert begins_as_it(built(model_folder.uri))
    # Another network, another output, or another start.
    assert not begins_as_it(built(model_folder.uri, "decoder.unet.channels=[16, 24]"))
    assert not begins_as_it(built(model_folder.uri, "decoder.process.predict=x0"))
    assert not begins_as_it(built(model_folder.uri, "decoder.process.residual_std=0.1"))
    other = changed(model_folder, tmp_path)
    assert not begins_as_it(built(model_folder.uri, start=other.uri))
    lean = "decoder.lean={channels: [8, 12], blocks: [0, 1], tail: 8}"
    assert type(built(model_folder.uri, lean, "decoder.neighbours_share=0").net).__name__ == "LeanNet"


def test_the_key_depends_on_the_teacher_and_not_on_its_place(model_folder: Folder, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for part in ("autoencoder", "decoder"):
        for name in ("config.json", "weights.safetensors"):
            Folder(str(copy)).write(f"{part}/{name}", model_folder.read(f"{part}/{name}"))
    other = changed(model_folder, tmp_path / "other")
    plain, here, there, another = (
        key(config) for config in (settings(), *(distilled(uri) for uri in (model_folder.uri, str(copy), other.uri)))
    )
    assert here == there and len({plain, here, another}) == 3
    assert key(distilled(model_folder.uri, "decoder.distill.steps=2")) != here


def test_a_teacher_of_another_process_is_one_line(model_folder: Folder) -> None:
    place = model_folder.uri
    for overrides, line in (
        (
            ["decoder.process={kind: rectified-flow}"],
            f"decoder.distill.teacher: got {place} with diffusion (s=0.5), expected rectified-flow as in "
            "decoder.process. Set decoder.process to the teacher's",
        ),
        (
            ["decoder.process.s=0.7"],
            f"decoder.distill.teacher: got {place} with diffusion (s=0.5), expected diffusion (s=0.7) as in "
            "decoder.process. Set decoder.process to the teacher's",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            key(distilled(place, *overrides))
        assert str(caught.value) == line


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["decoder.distill.teacher_steps=12"],
            "decoder.distill.teacher_steps: got 12, expected 2, 4, 8, ... times steps, which is 1",
        ),
        (
            ["decoder.distill.steps=4"],
            "decoder.distill.teacher_steps: got 4, expected 2, 4, 8, ... times steps, which is 4",
        ),
        (["decoder.steps=3"], "decoder.steps: got 3, expected null or 1, the steps of decoder.distill"),
        (
            ["decoder.perceptual={}"],
            "decoder.distill: got settings beside perceptual, expected one of them. Leave out the other",
        ),
        (
            ["decoder.process.predict=eps"],
            "decoder.process.predict: got eps, expected v or x0 with decoder.distill: eps at the start does not give "
            "x0",
        ),
        (
            ["decoder.train.budget=1 step"],
            "decoder.train.budget: got 1 steps, expected 2 or more, the rounds of distillation",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        distilled("desk-025", *overrides)
    assert str(caught.value) == line


def test_a_decoder_samples_by_its_own_sampler_where_none_is_given(model_folder: Folder, tmp_path: Path) -> None:
    plain = read_decoder(changed(model_folder, tmp_path / "plain") / "decoder")
    own = read_decoder(changed(model_folder, tmp_path / "own", sampler="ddim") / "decoder")
    x_hat = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def sample(decoder: ScoreDecoder, **settings: object) -> torch.Tensor:
        return decoder.sample(x_hat, Sampling(3, **settings), seeds=[1])

    assert torch.equal(sample(own), sample(plain, kind="ddim"))
    assert not torch.equal(sample(own), sample(plain))
    for asked in ({"kind": "ancestral"}, {"kind": "dpmpp-2m"}, {"gamma": 0.5}):
        assert torch.equal(sample(own, **asked), sample(plain, **asked))


@pytest.mark.integration
def test_a_run_distils_a_model_into_one_step(model_folder: Folder, tmp_path: Path) -> None:
    teacher = changed(model_folder, tmp_path / "teacher", trained_on=["alexnet"])
    config = tiny_config(
        write_photographs(tmp_path / "photos"), tmp_path / "w", "autoencoder.warm_start=" + model_folder.uri,
        "autoencoder.frozen=true", f"decoder.distill={{teacher: {teacher.uri}, teacher_steps: 8}}",
        "decoder.adversarial=null",
    )  # fmt: skip
    for name in ("prepare", "train-autoencoder", "reconstruct", "train-decoder"):
        made = retrain(config, Silent(), only=name)[0]
    stored = json.loads(made.folder.read("decoder/config.json"))
    fingerprint = read_decoder(teacher / "decoder").fingerprint
    assert (stored["steps"], stored["sampler"], stored["trained_on"]) == (1, "ddim", ["alexnet"])
    assert stored["distilled"] == {"teacher": fingerprint, "teacher_steps": 8}
    assert made.manifest.facts["last"]["sampler_steps"] == 1.0
    codec = Codec.load(made.folder)
    assert codec.default_sampling.steps == 1
