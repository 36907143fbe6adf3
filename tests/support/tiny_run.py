"""A whole run small enough for a test: made photographs, tiny networks, a few steps."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from hfd.config import Config
from hfd.config.presets import load_config
from tests.support.pictures import photograph

STAGES = ("autoencoder", "decoder", "decoder.adversarial")


def write_photographs(folder: Path, count: int = 8) -> Path:
    """``count`` different made photographs of 160 to 200 px, JPEG and PNG in turns."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        suffix = "jpg" if i % 2 else "png"
        Image.fromarray(photograph(160 + 5 * (i % 8), 200 - 5 * (i % 8), seed=i)).save(folder / f"photo {i}.{suffix}")
    return folder


def jpeg(height: int, width: int, seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photograph(height, width, seed)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def tiny_overrides(photographs: Path | str, workspace: Path | str, *more: str, steps: int = 6) -> list[str]:
    """Return overrides that make the preset ``demo`` tiny, as ``key=value``; ``more`` comes last and overrides."""
    shared = [
        f"data.uri={photographs}", f"workspace={workspace}", "tracking.uri=null", "tracking.system_metrics=false",
        "seed=1", "prepare.photos_per_shard=2", "prepare.validation_share=0.3", "prepare.source_crop_px=160",
        "autoencoder.warm_start=null", "decoder.warm_start=null", "decoder.adversarial.warm_start=null",
        "decoder.lean=null", "decoder.perceptual=null", "decoder.neighbours_share=0.25",
        "decoder.train.lr_final=0.1", "decoder.train.grad_clip=1.0",
        "autoencoder.gdn_channels=null", "decoder.process={kind: diffusion}", "evaluate.bootstrap_draws=20",
        "autoencoder.N=16", "autoencoder.M=16", "autoencoder.groups=[8, 8]",
        "decoder.unet.channels=[16, 16]", "decoder.unet.blocks=[1, 1]", "decoder.adversarial.discriminator=[8, 8, 8]",
        "evaluate.samplers=[{steps: 2}]", "evaluate.patch_px=64", "evaluate.num_examples=1", "evaluate.max_images=2",
        "cluster.train_threads=1", "cluster.map_threads=1",
    ]  # fmt: skip
    for stage in STAGES:
        train = {"budget": f"{steps} steps", "crop_px": 64, "batch_size": 4, "log_every_steps": 2, "warmup_steps": 2}
        shared += [f"{stage}.train.{key}={value}" for key, value in train.items()]
    return [*shared, *more]


def tiny_config(photographs: Path | str, workspace: Path | str, *more: str, steps: int = 6) -> Config:
    return load_config("demo", tiny_overrides(photographs, workspace, *more, steps=steps))
