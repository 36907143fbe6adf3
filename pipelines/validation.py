"""What a decoder is judged by while its model is made: the validation split, never the pictures it is evaluated on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hfd.codec.codec import picture_to_tensor, tensor_to_picture
from hfd.data.shards import iterate_rows
from hfd.diffusion.decoder import read_decoder
from hfd.diffusion.grain import amount_for
from hfd.diffusion.sampling import Sampling
from hfd.metrics.spectrum import top_octave_energy
from hfd.storage import Folder
from hfd.training.tasks import DecoderTask

NUM_CROPS = 32
"""Held-out crops that a loss is averaged over, each at ``TIMES`` times."""

TIMES = 4
GRAIN_CROPS = 8


def validation_loss(task: DecoderTask, pairs: Folder, tensors: Mapping[str, Tensor]) -> float:
    """The training loss of given weights on held-out crops, at times and noise that are the same for all weights."""
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


def _held_out(task: DecoderTask, pairs: Folder) -> Iterator[tuple[Tensor, Tensor]]:
    """x0 and x_hat (1, 3, h, w) in [-1, 1]: the middle of each crop, 256 px at most."""
    device, stride = next(task.net.parameters()).device, task.net.stride
    for row in islice(iterate_rows(pairs, "validation", ("x", "x_hat")), NUM_CROPS):
        height, width = (min(256, side // stride * stride) for side in row.pictures["x"].shape[:2])
        top, left = ((side - cut) // 2 for side, cut in zip(row.pictures["x"].shape, (height, width), strict=False))
        cut = (slice(top, top + height), slice(left, left + width))
        x0, x_hat = (picture_to_tensor(row.pictures[name][cut]).to(device) * 2.0 - 1.0 for name in ("x", "x_hat"))
        yield x0, x_hat


def grain_amount(decoder: Folder, pairs: Folder, device: torch.device) -> float:
    """How much grain brings the sample's top octave to the original's energy, on average over held-out crops."""
    model = read_decoder(decoder)
    model.net.to(device)
    settings = Sampling(steps=model.default_steps)
    without, with_one = [], []
    rows = islice(iterate_rows(pairs, "validation", ("x", "x_hat")), GRAIN_CROPS)
    for index, row in enumerate(rows):
        x_hat = picture_to_tensor(row.pictures["x_hat"]).to(device)
        plain = model.sample(x_hat, settings, seeds=[index])
        grainy = model.add_grain(plain, seeds=[index], amount=1.0)
        without.append(top_octave_energy(row.pictures["x"], tensor_to_picture(plain)))
        with_one.append(top_octave_energy(row.pictures["x"], tensor_to_picture(grainy)))
    return amount_for(without, with_one)
