"""Measure a decoder on the validation split: held-out loss, finish and grain. Evaluation uses other pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfd.codec.tensors import picture_to_tensor, tensor_to_picture
from hfd.config.decoder import FinishConfig
from hfd.data.crops import Crop
from hfd.data.shards import iterate_rows
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.finish import Finish, finished, sharpen_for
from hfd.diffusion.grain import amount_for
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.weights import read_decoder, write_decoder
from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.metrics.spectrum import is_empty, top_octave, top_octave_energy
from hfd.training.perceptual import PerceptualTask
from hfd.training.tasks import DecoderTask

NUM_CROPS = 32
"""Number of held-out crops for a loss, each at ``TIMES`` times, and for measures of samples."""

TIMES = 4


def validation_loss(task: DecoderTask | PerceptualTask, pairs: Folder, tensors: Mapping[str, Tensor]) -> float:
    """Return the training loss of weights on held-out crops, at the same times and noise for all weights."""
    parameters = dict(task.net.named_parameters())
    trained = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        _fill(parameters, tensors)
        task.net.eval()
        return float(np.mean([float(task.held_out_loss(x0, x_hat, TIMES)) for x0, x_hat in _held_out(task, pairs)]))
    finally:
        _fill(parameters, trained)
        task.net.train()


@torch.no_grad()
def _fill(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _held_out(task: DecoderTask | PerceptualTask, pairs: Folder) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x0 and x_hat (1, 3, h, w) in [-1, 1]: the centre of each crop, 256 px at most."""
    device, stride = next(task.net.parameters()).device, task.net.stride
    for row in islice(iterate_rows(pairs, "validation", ("x", "x_hat")), NUM_CROPS):
        height, width = (min(256, side // stride * stride) for side in row.pictures["x"].shape[:2])
        top, left = ((side - cut) // 2 for side, cut in zip(row.pictures["x"].shape, (height, width), strict=False))
        cut = (slice(top, top + height), slice(left, left + width))
        x0, x_hat = (picture_to_tensor(row.pictures[name][cut]).to(device) * 2.0 - 1.0 for name in ("x", "x_hat"))
        yield x0, x_hat


def write_measured(
    out: Folder,
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    finish: FinishConfig | None,
    pairs: Folder,
    device: torch.device,
) -> None:
    """Write a decoder to ``out``, with a finish and grain measured on its samples of held-out crops.

    ``settings``: the rest of its configuration.
    """
    write_decoder(out, tensors, {**settings, "grain": 0.0})
    bare = read_decoder(out, device)
    if finish is not None:
        settings = {**settings, "finish": finish_amounts(bare, finish, pairs)}
    write_decoder(out, tensors, {**settings, "grain": grain_amount(replace(bare, config=settings), pairs)})


def require_measurable(finish: FinishConfig | None, pairs: Folder) -> None:
    """Raise :class:`DataError` where a finish could not be measured after the training.

    ``pairs``: crops, with or without x_hat.
    """
    if finish is None or finish.restore == 0.0:
        return
    crops = islice(iterate_rows(pairs, "validation", ("x",)), NUM_CROPS)
    if all(is_empty(top_octave(row.pictures["x"])) for row in crops):
        raise _not_measurable(finish)


def _not_measurable(finish: FinishConfig) -> DataError:
    return DataError(
        f"decoder.finish.restore: got {finish.restore:g} without a held-out crop with fine detail, expected one to "
        "measure it on. Give more photographs or a larger prepare.validation_share, or set decoder.finish=null"
    )


def finish_amounts(bare: ScoreDecoder, finish: FinishConfig, pairs: Folder) -> dict[str, float]:
    """Return the section "finish" of a decoder without one. Raises :class:`DataError` if it cannot be measured."""
    sharpen = _sharpen(bare, finish, pairs) if finish.restore > 0.0 else 0.0
    return {"sharpen": sharpen, "chroma_noise": finish.chroma_noise}


def _sharpen(bare: ScoreDecoder, finish: FinishConfig, pairs: Folder) -> float:
    energies = [
        [
            top_octave_energy(row.pictures["x"], tensor_to_picture(finished(sample, Finish(amount), seeds=[0])))
            for amount in (0.0, 1.0, 2.0)
        ]
        for row, sample in _samples(bare, pairs)
    ]
    known = [found for found in energies if all(map(math.isfinite, found))]
    if not known:
        raise _not_measurable(finish)
    mean = np.mean(known, axis=0)
    return sharpen_for(float(mean[0] + finish.restore * (1.0 - mean[0])), mean.tolist())


def grain_amount(model: ScoreDecoder, pairs: Folder) -> float:
    """Return the grain that gives samples the top-octave energy of originals, on average over held-out crops."""
    without, with_one = [], []
    for index, (row, sample) in enumerate(_samples(model, pairs)):
        grainy = model.add_grain(sample, seeds=[index], amount=1.0)
        without.append(top_octave_energy(row.pictures["x"], tensor_to_picture(sample)))
        with_one.append(top_octave_energy(row.pictures["x"], tensor_to_picture(grainy)))
    return amount_for(without, with_one)


def _samples(model: ScoreDecoder, pairs: Folder) -> Iterator[tuple[Crop, Tensor]]:
    """Yield held-out crops and the decoder's samples of them, (1, 3, h, w) in [0, 1], seeded by their number."""
    settings, device = Sampling(steps=model.default_steps), model.device
    for index, row in enumerate(islice(iterate_rows(pairs, "validation", ("x", "x_hat")), NUM_CROPS)):
        yield row, model.sample(picture_to_tensor(row.pictures["x_hat"]).to(device), settings, seeds=[index])
