"""METRICS, the table of all metrics, and their values for one image and for a set of images.

Rows, the schema of ``images.parquet``, the summary, the plots, the columns of the report and the metric names in MLflow
are derived from it: to add a metric, add one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hfd.metrics import distortion
from hfd.metrics.frechet import FloatArray
from hfd.metrics.of_image import DecodedImage, bpp_of, dists_of, energy_of, lpips_of, lpips_vgg_of, ms_ssim_of

NetworkName = Literal["", "alexnet", "vgg16", "efficientnet", "inception", "dinov2", "clip"]
"""A pretrained network; empty: none."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One system at one setting over a set of images.

    ``columns``: the known values of each per-image metric, float64 (I,), by its name; ``num_pixels``: of all images
    together; ``distances``: those of the set's features, by the names of metrics; None where there are too few patches.
    """

    columns: Mapping[str, FloatArray]
    num_pixels: float
    distances: Mapping[str, float | None]


@dataclass(frozen=True)
class Metric:
    """One metric.

    ``name``: the column of ``images.parquet``, the key in a summary, and the last part of the name in MLflow.
    ``label``, ``unit``, ``digits`` (decimals) and ``hint`` are for headings and cells. ``better``: the direction; None
    if there is none. ``of_image``: the value of one image, None if it does not apply (such as for a baseline).
    ``of_set``: the value of a set. At least one of the two is set. ``caption``: the text under its plot against bits
    per pixel; empty: no plot. ``network``: the pretrained network whose features it compares. ``optional``: measured
    only where :class:`DecodedImage` has its weights; elsewhere it has no column.
    """

    name: str
    label: str
    digits: int
    hint: str
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    of_image: Callable[[DecodedImage], float | None] | None = None
    of_set: Callable[[ImageSet], float | None] | None = None
    caption: str = ""
    network: NetworkName = ""
    optional: bool = False

    @property
    def heading(self) -> str:
        return f"{self.label} {self.unit}".strip()


METRICS: dict[str, Metric] = {}
"""By name, in the order of columns."""


def register(metric: Metric) -> None:
    """Append a metric. Raises :class:`ValueError` if its name exists."""
    if metric.name in METRICS:
        raise ValueError(f"metric: got the name {metric.name!r} again, expected a new one")
    METRICS[metric.name] = metric


def image_metrics(measured: Collection[str] = ()) -> list[Metric]:
    """Metrics that have a value for each image; of the optional ones those whose names are in ``measured``."""
    return [metric for metric in _present(measured) if metric.of_image is not None]


def set_metrics(measured: Collection[str] = ()) -> list[Metric]:
    """Metrics that have a value for a set of images; of the optional ones those whose names are in ``measured``."""
    return [metric for metric in _present(measured) if metric.of_set is not None]


def _present(measured: Collection[str]) -> list[Metric]:
    return [metric for metric in METRICS.values() if not metric.optional or metric.name in measured]


def measure_image(image: DecodedImage) -> dict[str, float | None]:
    """Compute every per-image metric, by name; optional ones only with their weights."""
    metrics = image_metrics(() if image.vgg16 is None else METRICS)
    return {metric.name: metric.of_image(image) for metric in metrics if metric.of_image is not None}


def measure_set(images: ImageSet) -> dict[str, float | None]:
    """Compute every metric of a set, by name; optional ones only if their columns or distances exist."""
    metrics = set_metrics({*images.columns, *images.distances})
    return {metric.name: metric.of_set(images) for metric in metrics if metric.of_set is not None}


def mean_of(name: str) -> Callable[[ImageSet], float | None]:
    """Return the mean of a per-image metric, as a function of a set: over finite values, None if there is none.

    A PSNR of infinity (a picture decoded exactly) has no mean; `SummaryRow.counts` holds the number of images in it.
    """
    return lambda images: float(known.mean()) if len(known := finite(images.columns[name])) else None


def finite(values: FloatArray) -> FloatArray:
    """Return the finite values."""
    kept: FloatArray = values[np.isfinite(values)]
    return kept


def _per_megapixel(name: str) -> Callable[[ImageSet], float | None]:
    """Return the seconds of a set for each megapixel; None where they were not measured."""

    def of_set(images: ImageSet) -> float | None:
        known = images.columns[name]
        return float(known.sum()) / (images.num_pixels / 1e6) if len(known) else None

    return of_set


def _distance(name: str, label: str, digits: int, network: NetworkName, hint: str, caption: str) -> Metric:
    """Return a metric that compares the features of a set; optional but for the network that is always there."""

    def of_set(images: ImageSet) -> float | None:
        return images.distances.get(name)

    optional = network != "efficientnet"
    return Metric(
        name, label, digits, hint, better="lower", of_set=of_set, caption=caption, network=network, optional=optional
    )


for _metric in (
    Metric("bpp", "bpp", 3, "bits per pixel of the finished files", of_image=bpp_of, of_set=mean_of("bpp")),
    Metric(
        "bpp_est",
        "bpp est.",
        3,
        "the entropy model's likelihood estimate; not a file",
        of_image=lambda image: image.bpp_est,
        of_set=mean_of("bpp_est"),
    ),
    Metric(
        "psnr",
        "PSNR",
        2,
        "higher is closer to the original, pixel by pixel",
        unit="dB",
        better="higher",
        of_image=lambda image: distortion.psnr(image.original, image.decoded),
        of_set=mean_of("psnr"),
        caption="Peak signal-to-noise ratio: error per pixel, on a logarithmic scale.",
    ),
    Metric(
        "ms_ssim",
        "MS-SSIM",
        4,
        "higher is closer to the original in structure; at most 1",
        better="higher",
        of_image=ms_ssim_of,
        of_set=mean_of("ms_ssim"),
        caption="Multi-scale structural similarity: contrast and structure kept, at five scales.",
    ),
    Metric(
        "top_octave_energy",
        "energy",
        2,
        "top-octave power over the original's; 1 is right, below 1 is blur",
        of_image=energy_of,
        of_set=mean_of("top_octave_energy"),
    ),
    _distance(
        "fd_effnet",
        "FD-EffNet",
        1,
        "efficientnet",
        "Frechet distance of EfficientNet features; lower is more realistic",
        "Frechet distance between EfficientNet-Lite0 features. It is not FID, and it falls as images are "
        "added: compare it within this report only.",
    ),
    _distance(
        "kd_effnet",
        "KD-EffNet",
        4,
        "efficientnet",
        "kernel distance of EfficientNet features; lower is more realistic",
        "Kernel distance between the same features. It is unbiased: a good value may fall a little below zero.",
    ),
    _distance(
        "fid_256",
        "FID/256",
        2,
        "inception",
        "Frechet distance of Inception-v3 features of 256 px patches; lower is more realistic",
        "Frechet inception distance of 256 px patches, by the protocol of HiFiC. It falls as patches are added.",
    ),
    _distance(
        "kid_256",
        "KID/256",
        5,
        "inception",
        "kernel distance of Inception-v3 features of 256 px patches; lower is more realistic",
        "Kernel inception distance of the same patches, over all of them. A good value may fall below zero.",
    ),
    _distance(
        "fd_dinov2_256",
        "FD-DINOv2/256",
        1,
        "dinov2",
        "Frechet distance of DINOv2 ViT-L/14 features of 256 px patches; lower is more realistic",
        "Frechet distance between DINOv2 features of 256 px patches. It falls as patches are added.",
    ),
    _distance(
        "cmmd_256",
        "CMMD/256",
        3,
        "clip",
        "maximum mean discrepancy of CLIP embeddings of 256 px patches, x 1000; lower is more realistic",
        "Maximum mean discrepancy between CLIP embeddings of 256 px patches, times 1000.",
    ),
    Metric(
        "lpips",
        "LPIPS",
        3,
        "LPIPS (AlexNet); lower looks more like the original. Not a judge of decoders that were trained on it",
        better="lower",
        of_image=lpips_of,
        of_set=mean_of("lpips"),
        network="alexnet",
    ),
    Metric(
        "lpips_vgg",
        "LPIPS-VGG",
        3,
        "LPIPS (VGG16); lower looks more like the original",
        better="lower",
        of_image=lpips_vgg_of,
        of_set=mean_of("lpips_vgg"),
        network="vgg16",
        optional=True,
    ),
    Metric(
        "dists",
        "DISTS",
        3,
        "DISTS (VGG16); lower looks more like the original, and texture may be another of the same kind",
        better="lower",
        of_image=dists_of,
        of_set=mean_of("dists"),
        network="vgg16",
        optional=True,
    ),
    Metric("encode_s", "enc", 2, "seconds to encode", unit="s", of_image=lambda image: image.encode_s),
    Metric("decode_s", "dec", 2, "seconds to decode", unit="s", of_image=lambda image: image.decode_s),
    Metric(
        "encode_s_per_mp", "enc", 2, "seconds to encode a megapixel", unit="s/MP", of_set=_per_megapixel("encode_s")
    ),
    Metric(
        "decode_s_per_mp", "dec", 2, "seconds to decode a megapixel", unit="s/MP", of_set=_per_megapixel("decode_s")
    ),
):
    register(_metric)
