"""Folders of finished evaluations from plain numbers, with the files that the evaluate step writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hfd.image.load import RgbArray, encode_webp_lossless
from hfd.io.storage import Folder
from hfd.metrics.backbones import BACKBONES, BackboneName
from hfd.metrics.protocols import SetProtocol
from hfd.metrics.set_distances import distance_named
from hfd.metrics.table import image_metrics
from hfd.report.content import ImageRow
from hfd.report.summarise import Curve, CurveDistances, summarise
from pipelines.evaluate.distances import ORIGINAL, feature_name, write_features
from pipelines.evaluate.images import image_schema, parquet_bytes
from pipelines.evaluate.measure import Measured, PatchFeatures
from pipelines.evaluate.report import SETTINGS_FILE
from pipelines.evaluate.results import ExamplePictures
from pipelines.evaluate.rows import curves_of
from pipelines.evaluate.systems import gap_rows
from pipelines.runs.step import FORMAT

X_HAT, SAMPLE = ("autoencoder", "x_hat"), ("sample", "1 step")
JPEG = ("jpeg", "at most our rate")


@dataclass(frozen=True)
class MadeEvaluation:
    """An evaluation to write.

    ``psnr``: by curve and picture; the rate of a picture is ``bpp``, rising by 0.01 with each curve. ``fd``: the
    reported distance of every curve, beside ``distances`` by name. ``features``: whether feature files exist;
    ``shown``: pictures that are kept.
    """

    psnr: Mapping[Curve, Mapping[str, float]]
    bpp: float = 0.25
    size: tuple[int, int] = (48, 64)
    fd: float = 100.0
    distances: Mapping[str, float] = field(default_factory=dict)
    protocols: Mapping[str, SetProtocol] = field(default_factory=dict)
    patch_px: int = 64
    blocks: int = 0
    features: bool = False
    shown: tuple[str, ...] = ()
    seed: int = 0
    key: str = "0123456789abcdef"
    gaps: Mapping[str, str] = field(default_factory=dict)
    finished: str = "2026-01-02T03:04:05+00:00"
    config: str = "name: made\n"

    @property
    def images(self) -> list[str]:
        return list(dict.fromkeys(image for values in self.psnr.values() for image in values))


def image_of(name: str, size: tuple[int, int], error: int = 0) -> RgbArray:
    """A picture that depends on its name alone, and on ``error``."""
    rng = np.random.default_rng(list(name.encode()))
    x = np.kron(rng.integers(40, 200, (size[0] // 8, size[1] // 8, 3)), np.ones((8, 8, 1), int)) + error
    return x.astype(np.uint8)


def features_of_image(
    name: str, seed: int, place: int | None = None, network: BackboneName = "efficientnet"
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Features (3, D) of an original, or of its picture of the curve at ``place``."""
    rng = np.random.default_rng([seed, *name.encode()])
    original = rng.uniform(0, 6, (3, BACKBONES[network].dimension))
    noise = 0.0 if place is None else rng.normal(0.1, 0.2 + 0.1 * place, original.shape)
    return (original + noise).astype(np.float32)


def write_evaluation(workspace: Folder, made: MadeEvaluation) -> Folder:
    """Write the evaluation and ``latest.json``; return the step's folder."""
    folder = workspace / f"evaluate/{made.key}"
    rows = [
        _row(made, image, curve, place) for image in made.images for place, curve in enumerate(made.psnr)
        if image in made.psnr[curve]
    ]  # fmt: skip
    table = pa.Table.from_pylist([row.to_record() for row in rows], schema=image_schema())
    folder.write("images.parquet", parquet_bytes(table))
    distances = CurveDistances({"fd_effnet": made.fd, "kd_effnet": made.fd / 1e3, **made.distances})
    summary = summarise(curves_of(table), dict.fromkeys(made.psnr, distances))
    summary += gap_rows(made.gaps, summary)
    networks: dict[BackboneName, int] = {"efficientnet": 0}
    networks |= {one.backbone: 0 for name in made.distances if (one := distance_named(name)) is not None}
    for network in networks if made.features else ():
        measured = [_measured(made, image, network) for image in made.images]
        write_features(folder, feature_name(0, 1, network), measured, network)
    for number, image in enumerate(made.shown):
        home, curves = folder / f"pictures/{number:08d}", (ORIGINAL, *made.psnr)
        for place in range(len(curves)):
            home.write(f"{place}.webp", encode_webp_lossless(image_of(image, made.size, error=5 * place)))
        ExamplePictures(image, curves).write(home)
    if made.config:
        folder.write(SETTINGS_FILE, made.config.encode())
    facts = {
        "images": len(made.images), "rejected": 0, "blocks": made.blocks, "engine": "onnx",
        "summary": [row.to_record() for row in summary], "gaps": dict(made.gaps),
        "protocols": {name: one.to_record() for name, one in made.protocols.items()},
    }  # fmt: skip
    record = {
        "format": FORMAT, "step": "evaluate", "key": made.key, "digest": "d" * 64, "facts": facts,
        "inputs": {"model": "m" * 64}, "settings": {"patch_px": made.patch_px}, "seconds": 1.0,
        "finished": made.finished, "hfd": "0.1.0",
    }  # fmt: skip
    folder.write("manifest.json", json.dumps(record).encode())
    workspace.write("latest.json", json.dumps({"report": f"evaluate/{made.key}/report.html"}).encode())
    return folder


def _row(made: MadeEvaluation, image: str, curve: Curve, place: int) -> ImageRow:
    height, width = made.size
    known = {"bpp": made.bpp + 0.01 * place, "psnr": made.psnr[curve][image], "encode_s": 0.5, "decode_s": 0.25}
    values = {metric.name: known.get(metric.name) for metric in image_metrics()}
    return ImageRow(image, *curve, width, height, round(known["bpp"] * height * width / 8), values)


def _measured(made: MadeEvaluation, image: str, network: BackboneName) -> Measured:
    features = PatchFeatures(features_of_image(image, made.seed, network=network))
    for place, (curve, values) in enumerate(made.psnr.items()):
        if image in values:
            features.decoded[curve] = features_of_image(image, made.seed, place, network=network)
    return Measured(image, b"", {network: features})
