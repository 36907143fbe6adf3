"""Two training workers on Ray get the weights of one, through S3 and a killed worker, with any strategy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hfd.config import Config
from hfd.errors import TrainingError
from hfd.io.storage import Folder
from hfd.io.tensors import read_weights
from pipelines.context import Context, Inputs
from pipelines.corpus.listing import list_corpus
from pipelines.engine.open import open_engine
from pipelines.prepare import step as prepare
from pipelines.runs.step import Done
from pipelines.train import autoencoder as train_autoencoder
from pipelines.train import decoder as train_decoder
from pipelines.train import reconstruct
from tests.support.processes import descendants, once
from tests.support.tiny_run import tiny_config, write_photographs

STEPS = 40
RAY = ["cluster.kind=local", "cluster.num_cpus=2", "cluster.train_workers=2"]

FLOAT = ["autoencoder.train.precision=float32", "decoder.train.precision=float32"]
"""The rounding of bfloat16 would hide a mistake."""


@contextmanager
def running(config: Config) -> Iterator[Context]:
    with open_engine(config.cluster) as ready:
        yield Context(config, Folder(config.workspace_uri), ready)


def assert_same_weights(found: Folder, expected: Folder) -> None:
    (left, config, _), (right, other, _) = read_weights(found), read_weights(expected)
    assert left.keys() == right.keys() and config.keys() == other.keys()
    for name, value in right.items():
        if value.is_floating_point():  # tables of entropy coding may round to the neighbouring integer
            torch.testing.assert_close(left[name].float(), value.float(), rtol=5e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_folder")
def test_two_workers_on_ray_get_the_weights_of_one(s3: Folder, tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photographs")
    settings = [*FLOAT, "autoencoder.train.checkpoint_every_s=0.2", "autoencoder.train.accumulate=2"]
    alone = tiny_config(photographs, tmp_path / "alone", *FLOAT, steps=STEPS)
    with running(alone) as context:
        prepared = prepare.plan(
            replace(context, inputs=Inputs(list_corpus(str(photographs), setting="data.uri")))
        ).run()
        expected = train_autoencoder.plan(context, prepared).run()
        pairs = reconstruct.plan(context, prepared, expected).run()
        decoder = train_decoder.plan(context, pairs, expected).run()

    with running(tiny_config(photographs, s3.uri, *settings, *RAY, steps=STEPS)) as context:
        killed: list[int] = []

        def a_checkpoint() -> bool:
            return any("checkpoint-" in entry.key for entry in s3.files()) if s3.exists() else False

        def kill() -> None:
            victim = descendants("RayTrainWorker")[-1]
            victim.kill()
            killed.append(victim.pid)

        with once(a_checkpoint, kill):
            found = train_autoencoder.plan(context, prepared).run()
        assert len(killed) == 1 and found.manifest.facts["steps"] == STEPS
        assert_same_weights(found.folder / "autoencoder", expected.folder / "autoencoder")
        # Of the training nothing is left in the bucket but its weights.
        assert not [entry.key for entry in s3.files() if "checkpoint" in entry.key]

        shared = tiny_config(photographs, tmp_path / "fsdp", *FLOAT, *RAY, "cluster.strategy=fsdp", steps=STEPS)
        context = replace(context, config=shared, workspace=Folder(shared.workspace_uri), engine=on(context, shared))
        fsdp = train_decoder.plan(context, pairs, expected).run()
        assert_same_weights(fsdp.folder / "decoder", decoder.folder / "decoder")
        names = [sorted(entry.key for entry in done.folder.files()) for done in (fsdp, decoder)]
        assert names[0] == names[1]

        wild = ["autoencoder.train.lr=1", "autoencoder.train.grad_clip=1e9", "autoencoder.train.warmup_steps=0"]
        config = tiny_config(photographs, tmp_path / "wild", *FLOAT, *RAY, *wild, steps=STEPS)
        context = replace(context, config=config, workspace=Folder(config.workspace_uri), engine=on(context, config))
        with pytest.raises(TrainingError, match=r"^train-autoencoder: loss: got a ") as caught:
            train_autoencoder.plan(context, prepared).run()
        assert "\n" not in str(caught.value)

    # One CPU for one or two workers: it begins with the one that there is room for.
    few = ["cluster.kind=local", "cluster.num_cpus=1", "cluster.train_workers=2", "cluster.train_workers_min=1"]
    with running(tiny_config(photographs, tmp_path / "few", *FLOAT, *few, steps=STEPS)) as context:
        elastic: Done = train_autoencoder.plan(context, prepared).run()
        assert_same_weights(elastic.folder / "autoencoder", expected.folder / "autoencoder")


def on(context: Context, config: Config) -> object:
    """The same Ray with other settings."""
    from pipelines.engine.on_ray import OnRay

    assert isinstance(context.engine, OnRay)
    return OnRay(config.cluster, map_gpus=0.0)
