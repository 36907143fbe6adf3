"""Step 3: the frozen autoencoder's reconstruction beside each source crop.

x_hat is what a decoder will see: rounded to eight bits, from rounded latents. (Entropy coding is lossless
and is left out.)
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
from hfd.codec.pixels import picture_to_tensor, tensor_to_picture
from hfd.data.shards import SPLITS, Row, iterate_shard, open_shard, shard_names
from hfd.images import RgbArray
from hfd.storage import Folder
from pipelines.cluster import map_device
from pipelines.context import Context
from pipelines.parts import digest_of_parts, run_parts
from pipelines.steps import Done, Outcome, Step

NAME = "reconstruct"


def plan(context: Context, prepared: Done, autoencoder: Done) -> Step:
    rates = context.config.decoder.rates
    settings = {} if rates is None else {"seed": context.config.seed, "rates": list(rates)}
    return Step(
        NAME, context.workspace, settings, {"prepare": prepared.digest, "train-autoencoder": autoencoder.digest}
    )


def run(context: Context, prepared: Done, autoencoder: Done) -> Done:
    step = plan(context, prepared, autoencoder)
    return context.do(step, lambda folder, _run: _reconstruct(context, prepared, autoencoder, folder))


def _reconstruct(context: Context, prepared: Done, autoencoder: Done, folder: Folder) -> Outcome:
    names = [name for split in SPLITS for name in shard_names(prepared.folder, split)]
    weights, device = autoencoder.folder / "autoencoder", map_device(context.config.cluster)
    rates = Rates(context.config.seed, context.config.decoder.rates)
    payloads = [(prepared.folder, name, weights, device, rates) for name in names]
    with context.display.bar("reconstruct", "shards") as progress:
        results = run_parts(context.engine.with_gpus(), folder, payloads, reconstruct_shard, progress)
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
    """At which rate a crop is reconstructed: the model's own, or an id from ``between`` (both included) that a digest
    of the seed and the crop's id draws, whatever runs it."""

    seed: int
    between: tuple[int, int] | None

    def of(self, crop: str) -> int:
        if self.between is None:
            return DEFAULT_RATE
        low, high = self.between
        digest = hashlib.sha256(f"hfd.reconstruct:{self.seed}:{crop}".encode()).digest()
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)


def reconstruct_shard(
    index: int, count: int, folder: Folder, payload: tuple[Folder, str, Folder, str, Rates]
) -> dict[str, Any]:
    """Write one shard's ``x`` and ``x_hat`` under the name of the shard that it is read from."""
    del index, count
    crops, name, weights, device, rates = payload
    model = load_model(weights.uri, device)
    digest = hashlib.sha256()
    num_crops = values = squared_error = 0
    with open_shard(folder, name, ("x", "x_hat")) as writer:
        for row in iterate_shard(crops, name):
            x = row.pictures["x"]
            x_hat = reconstruct(model, x, rates.of(row.id))
            writer.add(Row(row.id, row.photo, row.content, {"x": x, "x_hat": x_hat}))
            digest.update(row.id.encode())
            digest.update(x_hat.data)
            num_crops += 1
            values += x.size
            squared_error += int(np.square(x.astype(np.int32) - x_hat).sum())
    return {
        "digest": digest.hexdigest(),
        "crops": num_crops,
        "values": values,
        "squared_error": squared_error,
    }


@functools.lru_cache(maxsize=1)
def load_model(uri: str, device: str) -> Elic:
    """One model a worker process."""
    return read_autoencoder(Folder(uri)).model.to(device)


@torch.no_grad()
def reconstruct(model: Elic, x: RgbArray, rate: int = DEFAULT_RATE) -> RgbArray:
    """x_hat, uint8 (H, W, 3), of a picture uint8 (H, W, 3) at a rate id; float32 arithmetic."""
    device = next(model.parameters()).device
    step = torch.tensor([step_units(rate) / UNITS], device=device)
    output = model(pad_to_stride(picture_to_tensor(x).to(device)), steps=step)
    return tensor_to_picture(output.x_hat[..., : x.shape[0], : x.shape[1]])
