"""One image, measured: its real file, both stages decoded from that file's bytes, and the baselines around its rate."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hfd.baselines.pillow_codecs import available_baselines, bracket_rate
from hfd.codec.codec import Codec, seed_of_file
from hfd.config import SamplerConfig
from hfd.diffusion.sampling import Sampling
from hfd.images import RgbArray
from hfd.metrics.distortion import bpp, ms_ssim, psnr
from hfd.metrics.features import effnet_features
from hfd.metrics.patches import fid_patches
from hfd.metrics.spectrum import top_octave_energy
from hfd.report.content import ImageRow
from hfd.storage import Folder

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


@dataclass
class Measured:
    """``data``: the .hfd file; patch features (P, 1280) of the ``original`` and by curve; decoded pictures by curve."""

    data: bytes
    original: npt.NDArray[np.float32]
    rows: list[ImageRow] = field(default_factory=list)
    features: dict[Curve, npt.NDArray[np.float32]] = field(default_factory=dict)
    pictures: dict[Curve, RgbArray] = field(default_factory=dict)


@functools.lru_cache(maxsize=1)
def load_codec(uri: str, device: str) -> Codec:
    """One codec a worker process; stage 2 on the GPU where the worker was given one."""
    return Codec.load(Folder(uri), device=device)


def measure(
    codec: Codec, name: str, x: RgbArray, settings: MeasureSettings, store: Callable[[bytes], bytes]
) -> Measured:
    """Measure every system on a picture, uint8 (H, W, 3).

    ``store`` keeps the file's bytes and returns them as read back: decoding starts from what is on the disk.
    """
    compressed, encode_s = _timed(lambda: codec.compress(x))
    data = store(compressed.data)
    measured = Measured(data, original=features_of(x, settings.patch_px))
    ruler = _Ruler(name, x, settings.patch_px, measured)
    x_hat, stage1_s = _timed(lambda: codec.reconstruct(data))
    ruler.add(("autoencoder", "x_hat"), x_hat, len(data), encode_s, stage1_s, bpp_est=compressed.bpp_est)
    for sampler in settings.samplers if codec.decoder is not None else ():
        sampling = sampling_of(sampler, codec)
        sample, stage2_s = _timed(lambda s=sampling: codec.sample(x_hat, s, seed=seed_of_file(data)))  # type: ignore[misc]
        ruler.add(
            ("sample", sampling.label),
            sample,
            len(data),
            encode_s,
            stage1_s + stage2_s,
            bpp_est=compressed.bpp_est,
        )
    for curve, encoded, picture, times in _baselines(x, len(data), settings):
        ruler.add(curve, picture, encoded, *times)
    return measured


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


class _Ruler:
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
        row = ImageRow(
            image=self._name,
            system=curve[0],
            setting=curve[1],
            width=width,
            height=height,
            num_bytes=num_bytes,
            bpp=bpp(num_bytes, width, height),
            bpp_est=bpp_est,
            psnr=psnr(self._x, picture),
            ms_ssim=ms_ssim(self._x, picture),
            top_octave_energy=top_octave_energy(self._x, picture),
            encode_s=encode_s,
            decode_s=decode_s,
        )
        self._measured.rows.append(row)
        self._measured.features[curve] = features_of(picture, self._patch_px)
        self._measured.pictures[curve] = picture


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started
