"""Trainings of stage 2 on pairs (x, x_hat): shared by train-decoder and finetune-decoder."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hfd.codec.codec import Codec
from hfd.config import DecoderConfig, TrainConfig
from hfd.data.shards import iterate_rows
from hfd.diffusion.weights import read_decoder
from hfd.io.storage import Folder
from pipelines.context import Context
from pipelines.engine.base import Worker
from pipelines.runs.step import Done, Outcome, Step, digest_of
from pipelines.tracking import StepRun
from pipelines.tracking.pictures import beside
from pipelines.train.averaging import Snapshots
from pipelines.train.job import TrainJob, run_training
from pipelines.train.model_files import copy_weights, log_weights, write_graphs

SAMPLES = 2


@dataclass(frozen=True)
class PairTraining:
    """One training of stage 2: its step, the ``pairs``, and the autoencoder that made their x_hat."""

    context: Context
    step: Step
    pairs: Folder
    autoencoder: Done
    record: StepRun

    @property
    def config(self) -> DecoderConfig:
        return self.context.config.decoder

    @property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.step.folder, self.config.ema.num_snapshots)

    def train(
        self, settings: TrainConfig, build: Callable[[Worker], Any], finish: Callable[[Any, Folder, int], None]
    ) -> Outcome:
        """Train the task of ``build``, with snapshots of its averages, and finish the model folder."""
        job = TrainJob(
            crops=self.pairs,
            out=self.step.folder,
            pictures=("x", "x_hat"),
            seed=self.context.config.seed,
            settings=settings,
            identity=self.step.identity,
            logger=self.record.worker_handle(),
            build=build,
            finish=finish,
            on_step=self.snapshots.on_step,
        )
        return self.finish_model(run_training(self.context, self.step, job))

    def finish_model(self, facts: dict[str, Any]) -> Outcome:
        """Add the autoencoder's weights to those of the decoder, which makes the step's folder a model folder."""
        folder = self.step.folder
        copy_weights(self.autoencoder.folder / "autoencoder", folder / "autoencoder")
        write_graphs(folder, self.context.display)
        if self.context.parent is not None:
            self._record(folder)
        return Outcome(digest_of([self.autoencoder.digest, read_decoder(folder / "decoder").fingerprint]), facts)

    def _record(self, model: Folder) -> None:
        """Store the weights, and a few held-out crops as x, x_hat and sample, as artifacts."""
        log_weights(self.record, model, "decoder")
        codec = Codec.load(model)
        for index, crop in enumerate(islice(iterate_rows(self.pairs, "validation", ("x", "x_hat")), SAMPLES)):
            x, x_hat = crop.pictures["x"], crop.pictures["x_hat"]
            sample = codec.sample(x_hat, codec.default_sampling, seed=zlib.crc32(crop.id.encode()))
            self.record.log_image(f"x x_hat sample {index}", beside(x, x_hat, sample), step=0)


def network_config(config: DecoderConfig) -> dict[str, Any]:
    """Return the settings of process and network that a decoder file stores."""
    return config.content(include={"process", "unet", "lean"})
