"""Step reconstruct: the frozen autoencoder's reconstruction x_hat beside each source crop x.

x_hat equals what a decoder sees: eight bits, from rounded latents. Entropy coding is lossless and omitted.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hfd.autoencoder.model import Elic, pad_to_stride
from hfd.autoencoder.rates import DEFAULT_RATE, UNITS, step_units
from hfd.autoencoder.weights import read_autoencoder
from hfd.codec.tensors import picture_to_tensor, tensor_to_picture
from hfd.data.crops import Crop
from hfd.data.shards import SPLITS, iterate_shard, open_shard, shard_names
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from pipelines.context import Context, PlannedStep
from pipelines.engine.devices import map_device
from pipelines.runs.parts import StepPart, digest_of_parts, run_parts
from pipelines.runs.step import Done, Outcome, Step
from pipelines.train import RECONSTRUCT


def plan(context: Context, prepared: Done, autoencoder: Done) -> PlannedStep:
    inputs = {"prepare": prepared.digest, "train-autoencoder": autoencoder.digest}
    rates = context.config.decoder.rates
    settings = {} if rates is None else {"seed": context.config.seed, "rates": list(rates)}
    step = Step(RECONSTRUCT.name, context.workspace, settings, inputs)
    return PlannedStep(context, step, lambda folder, _run: _reconstruct(context, prepared, autoencoder, folder))


def _reconstruct(context: Context, prepared: Done, autoencoder: Done, folder: Folder) -> Outcome:
    names = [name for split in SPLITS for name in shard_names(prepared.folder, split)]
    weights, device = autoencoder.folder / "autoencoder", map_device(context.config.cluster)
    rates = Rates(context.config.seed, context.config.decoder.rates)
    tasks = [ShardTask(prepared.folder, name, weights, device, rates) for name in names]
    with context.display.bar("reconstruct", "shards") as progress:
        results = run_parts(context.engine.with_gpus(), folder, tasks, reconstruct_shard, progress)
    errors = [result["squared_error"] for result in results]
    values = sum(result["values"] for result in results)
    psnr = 10 * np.log10(255**2 * values / sum(errors)) if values and sum(errors) else None
    facts = {
        "crops": sum(result["crops"] for result in results),
        "psnr": None if psnr is None else round(float(psnr), 3),
    }
    return Outcome(digest_of_parts(results), facts)


@dataclass(frozen=True)
class Rates:
    """The rate id of each crop: the model's own, or one from ``between`` (both ends included).

    A digest of the seed and the crop's id draws it, so that it depends on no worker.
    """

    seed: int
    between: tuple[int, int] | None

    def of(self, crop: str) -> int:
        if self.between is None:
            return DEFAULT_RATE
        low, high = self.between
        digest = hashlib.sha256(f"hfd.reconstruct:{self.seed}:{crop}".encode()).digest()
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)


@dataclass(frozen=True)
class ShardTask:
    """The shard ``name`` of the folder ``crops``, and the autoencoder weights, device and rates that reconstruct it."""

    crops: Folder
    name: str
    weights: Folder
    device: str
    rates: Rates


def reconstruct_shard(part: StepPart[ShardTask]) -> dict[str, Any]:
    """Write one shard's ``x`` and ``x_hat`` under the name of the source shard."""
    task = part.payload
    model = load_model(task.weights.uri, task.device)
    digest = hashlib.sha256()
    num_crops = values = squared_error = 0
    with open_shard(part.folder, task.name, ("x", "x_hat")) as writer:
        for row in iterate_shard(task.crops, task.name):
            x = row.pictures["x"]
            x_hat = reconstruct(model, x, task.rates.of(row.id))
            writer.add(Crop(row.id, row.photo, row.content, {"x": x, "x_hat": x_hat}))
            digest.update(row.id.encode())
            digest.update(x_hat.data)
            num_crops += 1
            values += x.size
            squared_error += int(np.square(x.astype(np.int32) - x_hat).sum())
    return {"digest": digest.hexdigest(), "crops": num_crops, "values": values, "squared_error": squared_error}


@functools.lru_cache(maxsize=1)
def load_model(uri: str, device: str) -> Elic:
    """Load the model, once in each worker process."""
    return read_autoencoder(Folder(uri)).model.to(device)


@torch.no_grad()
def reconstruct(model: Elic, x: RgbArray, rate: int = DEFAULT_RATE) -> RgbArray:
    """Return x_hat, uint8 (H, W, 3), of a picture uint8 (H, W, 3) at a rate id, in float32 arithmetic."""
    device = next(model.parameters()).device
    step = torch.tensor([step_units(rate) / UNITS], device=device)
    output = model(pad_to_stride(picture_to_tensor(x).to(device)), steps=step)
    return tensor_to_picture(output.x_hat[..., : x.shape[0], : x.shape[1]])
