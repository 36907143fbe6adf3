"""One image, measured: its real file, both stages decoded from that file's bytes, and the baselines around its rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hfd.baselines.pillow_codecs import available_baselines, bracket_rate
from hfd.codec.codec import Codec
from hfd.codec.container import seed_of_file
from hfd.config import SamplerConfig
from hfd.diffusion.sampling import Sampling
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from hfd.metrics.features import effnet_features
from hfd.metrics.patches import fid_patches
from hfd.metrics.table import DecodedImage, measure_image
from hfd.report.content import ImageRow

T = TypeVar("T")

Curve = tuple[str, str]
"""(system, setting): what a row of the summary is about."""


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured on each image; fields as in the ``evaluate`` section of the configuration."""

    samplers: tuple[SamplerConfig, ...]
    patch_px: int
    baselines: tuple[str, ...]
    baseline_rates: tuple[float, ...]
    tile_pixels: int
    batch_pixels: int


@dataclass(frozen=True)
class Coded:
    """A picture that went through stage 1: ``data``: the file as read back; ``x_hat`` decoded from it; seconds."""

    name: str
    x: RgbArray
    data: bytes
    bpp_est: float
    encode_s: float
    x_hat: RgbArray
    stage1_s: float

    @property
    def seed(self) -> int:
        return seed_of_file(self.data)


@dataclass(frozen=True)
class Sample:
    """A stage-2 sample at the setting that ``label`` names, and the seconds that its walk took."""

    label: str
    picture: RgbArray
    seconds: float


@dataclass
class Measured:
    """``data``: the .hfd file; patch features (P, 1280) of the ``original`` and by curve; decoded pictures by curve."""

    name: str
    data: bytes
    original: npt.NDArray[np.float32]
    rows: list[ImageRow] = field(default_factory=list)
    features: dict[Curve, npt.NDArray[np.float32]] = field(default_factory=dict)
    pictures: dict[Curve, RgbArray] = field(default_factory=dict)


def load_codec(uri: str, device: str) -> Codec:
    """What a worker loads once; stage 2 on the GPU where the worker was given one."""
    return Codec.load(Folder(uri), device=device)


def code(codec: Codec, name: str, x: RgbArray, store: Callable[[bytes], bytes]) -> Coded:
    """Stage 1 of a picture, uint8 (H, W, 3).

    ``store`` keeps the file's bytes and returns them as read back: decoding starts from what is on the disk.
    """
    compressed, encode_s = _timed(lambda: codec.compress(x))
    data = store(compressed.data)
    x_hat, stage1_s = _timed(lambda: codec.reconstruct(data))
    return Coded(name, x, data, compressed.bpp_est, encode_s, x_hat, stage1_s)


def sample_batch(codec: Codec, batch: Sequence[Coded], settings: MeasureSettings) -> list[list[Sample]]:
    """Every sampler's samples of pictures of one size, a list for each picture. Each takes its share of the time."""
    found: list[list[Sample]] = [[] for _ in batch]
    x_hats, seeds = [coded.x_hat for coded in batch], [coded.seed for coded in batch]
    for sampling in samplings(codec, settings):
        pictures, seconds = _timed(lambda s=sampling: codec.sample_batch(x_hats, s, seeds=seeds))  # type: ignore[misc]
        for samples, picture in zip(found, pictures, strict=True):
            samples.append(Sample(sampling.label, picture, seconds / len(batch)))
    return found


def judge(coded: Coded, samples: Sequence[Sample], settings: MeasureSettings) -> Measured:
    """Measure every system on a picture: both stages and the baselines around their rate."""
    measured = Measured(coded.name, coded.data, original=features_of(coded.x, settings.patch_px))
    measurer = _Measurer(coded.name, coded.x, settings.patch_px, measured)
    size, times = len(coded.data), (coded.encode_s, coded.stage1_s)
    measurer.add(("autoencoder", "x_hat"), coded.x_hat, size, *times, bpp_est=coded.bpp_est)
    for sample in samples:
        decode_s = coded.stage1_s + sample.seconds
        measurer.add(("sample", sample.label), sample.picture, size, coded.encode_s, decode_s, bpp_est=coded.bpp_est)
    for curve, encoded, picture, baseline_times in _baselines(coded.x, size, settings):
        measurer.add(curve, picture, encoded, *baseline_times)
    return measured


def samplings(codec: Codec, settings: MeasureSettings) -> list[Sampling]:
    """What stage 2 is to be asked for; nothing where a model has none."""
    return [sampling_of(sampler, codec) for sampler in settings.samplers] if codec.decoder is not None else []


def sampling_of(sampler: SamplerConfig, codec: Codec) -> Sampling:
    """The sampling that a section of the configuration asks of a model."""
    steps = sampler.steps or codec.default_sampling.steps
    return Sampling(steps, sampler.kind, sampler.gamma, sampler.realism, sampler.grain, sampler.finish)


def _baselines(
    x: RgbArray, num_bytes: int, settings: MeasureSettings
) -> Iterator[tuple[Curve, int, RgbArray, tuple[float, float]]]:
    for baseline in available_baselines()[0]:
        if baseline.name not in settings.baselines:
            continue
        for rate in settings.baseline_rates:
            sides = zip(
                ("at most", "at least"),
                bracket_rate(baseline, x, max(1, round(rate * num_bytes))),
                strict=True,
            )
            for side, encoded in sides:
                if encoded is None:
                    continue
                # Bracketing encodes many times; the time of one encoding is what counts.
                quality = encoded.quality
                _, encode_s = _timed(lambda b=baseline, q=quality: b.encode(x, q))  # type: ignore[misc]
                picture, decode_s = _timed(lambda b=baseline, e=encoded: b.decode(e.data))  # type: ignore[misc]
                yield (
                    (baseline.name, setting_label(side, rate)),
                    len(encoded.data),
                    picture,
                    (encode_s, decode_s),
                )


def setting_label(side: str, rate: float) -> str:
    return f"{side} our rate" if rate == 1.0 else f"{side} {rate:g} x our rate"


def features_of(x: RgbArray, patch_px: int) -> npt.NDArray[np.float32]:
    """Features (P, 1280) of a picture's patches."""
    return effnet_features()(fid_patches(x, patch_px))


class _Measurer:
    """Measures decoded pictures against one original."""

    def __init__(self, name: str, x: RgbArray, patch_px: int, measured: Measured) -> None:
        self._name, self._x, self._patch_px, self._measured = name, x, patch_px, measured

    def add(
        self,
        curve: Curve,
        picture: RgbArray,
        num_bytes: int,
        encode_s: float,
        decode_s: float,
        *,
        bpp_est: float | None = None,
    ) -> None:
        height, width = self._x.shape[:2]
        values = measure_image(DecodedImage(self._x, picture, num_bytes, encode_s, decode_s, bpp_est))
        row = ImageRow(self._name, *curve, width, height, num_bytes, values)
        self._measured.rows.append(row)
        self._measured.features[curve] = features_of(picture, self._patch_px)
        self._measured.pictures[curve] = picture


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started
