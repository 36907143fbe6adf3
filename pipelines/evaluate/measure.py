"""Measure one image: its real file, both stages decoded from that file's bytes, and the baselines around its rate."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hfd.baselines.external import External, Programs, missing_programs
from hfd.baselines.pillow_codecs import Baseline, available_baselines, bracket_rate
from hfd.codec.codec import Codec
from hfd.codec.container import DEFAULT_RATE, seed_of_file, unpack
from hfd.codec.refinement import compress
from hfd.codec.sections import holds_grey
from hfd.config import EvaluateConfig, SamplerConfig
from hfd.diffusion.sampling import Sampling
from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from hfd.kinds import EngineKind
from hfd.metrics.backbones import BACKBONES, BackboneFile, BackboneName
from hfd.metrics.features import effnet_features
from hfd.metrics.of_image import DecodedImage
from hfd.metrics.original import Original
from hfd.metrics.patches import fid_patches
from hfd.metrics.read_backbone import read_backbone
from hfd.metrics.set_distances import PROTOCOL_PX
from hfd.metrics.table import measure_image
from hfd.perceptual.vgg16 import Vgg16File
from hfd.report.content import ImageRow
from hfd.report.summarise import Curve
from pipelines.evaluate.rate_names import SIDES, bpp_name, rate_name

T = TypeVar("T")


@dataclass(frozen=True)
class MeasureSettings:
    """Settings of the measurements; fields as in the ``evaluate`` section of the configuration.

    ``backbones``: networks of published protocols, which run on ``device``.
    """

    samplers: tuple[SamplerConfig, ...]
    patch_px: int
    baselines: tuple[str, ...]
    baseline_rates: tuple[float, ...]
    tile_pixels: int
    batch_pixels: int
    external: tuple[Programs, ...] = ()
    vgg16: Vgg16File | None = None
    baseline_bpp: tuple[float, ...] = ()
    backbones: tuple[BackboneFile, ...] = ()
    device: str = "cpu"
    rate: int = DEFAULT_RATE
    refine_steps: int = 0

    @property
    def networks(self) -> tuple[BackboneName, ...]:
        """The networks of set metrics."""
        return ("efficientnet", *(file.name for file in self.backbones))


def vgg16_file(config: EvaluateConfig) -> Vgg16File | None:
    """Return the weights of the optional metrics; None: not given."""
    if config.vgg16 is None:
        return None
    return Vgg16File(config.vgg16) if config.vgg16_sha256 is None else Vgg16File(config.vgg16, config.vgg16_sha256)


def backbone_files(config: EvaluateConfig) -> tuple[BackboneFile, ...]:
    """Return the given weights of networks of published protocols."""
    return tuple(
        BackboneFile(one.name, one.folder, one.sha256 or BACKBONES[one.name].sha256 or "") for one in config.backbones
    )


@dataclass(frozen=True)
class Coded:
    """A picture after stage 1: ``data``: its file as read back; ``x_hat`` decoded from it; times in seconds."""

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

    @property
    def is_grey(self) -> bool:
        return holds_grey(unpack(self.data))


@dataclass(frozen=True)
class Sample:
    """A stage-2 sample at the setting that ``label`` names, and the seconds that the sampler took."""

    label: str
    picture: RgbArray
    seconds: float


FeatureArray = npt.NDArray[np.float32]


@dataclass
class PatchFeatures:
    """Features (P, D) of one network: of the patches of an original, and of its decoded versions by curve."""

    original: FeatureArray
    decoded: dict[Curve, FeatureArray] = field(default_factory=dict)


@dataclass
class Measured:
    """``data``: the .hfd file; ``features``: of every network; decoded pictures by curve."""

    name: str
    data: bytes
    features: dict[BackboneName, PatchFeatures]
    rows: list[ImageRow] = field(default_factory=list)
    pictures: dict[Curve, RgbArray] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, data: bytes, x: RgbArray, settings: MeasureSettings) -> Measured:
        """Begin with the features of the original, uint8 (H, W, 3)."""
        return cls(name, data, {network: PatchFeatures(found) for network, found in features_of(x, settings).items()})

    def add(self, curve: Curve, image: DecodedImage, settings: MeasureSettings) -> None:
        """Measure one decoded version of the picture."""
        height, width = image.original.shape[:2]
        self.rows.append(ImageRow(self.name, *curve, width, height, image.num_bytes, measure_image(image)))
        for network, found in features_of(image.decoded, settings).items():
            self.features[network].decoded[curve] = found
        self.pictures[curve] = image.decoded

    def num_patches(self, network: BackboneName) -> int:
        """Patches of the original; 0 without the network."""
        return len(self.features[network].original) if network in self.features else 0


def load_codec(uri: str, device: str, engine: EngineKind = "auto") -> Codec:
    """Load a model, once per worker; stage 2 runs on the worker's GPU, if any."""
    return Codec.load(Folder(uri), device=device, engine=engine)


def code(
    codec: Codec, name: str, x: RgbArray, store: Callable[[bytes], bytes], rate: int = DEFAULT_RATE, steps: int = 0
) -> Coded:
    """Run stage 1 on a picture, uint8 (H, W, 3), at a rate id, with a latent refined in so many ``steps``.

    ``store`` writes the file and returns its bytes as read back: decoding starts from the stored file.
    """
    compressed, encode_s = _timed(functools.partial(compress, codec, x, steps=steps, rate=rate, estimate=True))
    assert compressed.bpp_est is not None
    data = store(compressed.data)
    x_hat, stage1_s = _timed(functools.partial(codec.reconstruct, data))
    return Coded(name, x, data, compressed.bpp_est, encode_s, x_hat, stage1_s)


def sample_batch(codec: Codec, batch: Sequence[Coded], settings: MeasureSettings) -> list[list[Sample]]:
    """Sample pictures of one size with every sampler, a list for each picture; the time is divided equally."""
    results: list[list[Sample]] = [[] for _ in batch]
    pairs = list(zip(batch, results, strict=True))
    for grey in (False, True):
        members = [(coded, samples) for coded, samples in pairs if coded.is_grey == grey]
        x_hats, seeds = [coded.x_hat for coded, _ in members], [coded.seed for coded, _ in members]
        for sampling in samplings(codec, settings) if members else ():
            of_kind = replace(sampling, grey=grey)
            pictures, seconds = _timed(functools.partial(codec.sample_batch, x_hats, of_kind, seeds=seeds))
            for (_, samples), picture in zip(members, pictures, strict=True):
                samples.append(Sample(sampling.label, picture, seconds / len(members)))
    return results


def measure(
    coded: Coded, samples: Sequence[Sample], settings: MeasureSettings, original: Original | None = None
) -> Measured:
    """Measure every system on a picture: both stages and the baselines around their rate and at absolute ones.

    ``original``: of ``coded.x``, for a caller that measures more of its decoded versions.
    """
    original = Original(coded.x) if original is None else original
    x, size = original.x, len(coded.data)
    measured = Measured.of(coded.name, coded.data, x, settings)
    stages = [("autoencoder", "x_hat", coded.x_hat, 0.0)]
    stages += [("sample", sample.label, sample.picture, sample.seconds) for sample in samples]
    for system, setting, picture, seconds in stages:
        times = coded.encode_s, coded.stage1_s + seconds
        image = DecodedImage(original, picture, size, *times, coded.bpp_est, settings.vgg16)
        measured.add((system, setting), image, settings)
    _add_baselines(measured, original, [*_relative(size, settings), *_absolute(x, settings)], settings)
    return measured


def measure_others(name: str, original: Original, settings: MeasureSettings) -> Measured:
    """Measure the baselines on a picture at absolute rates, without a model."""
    measured = Measured.of(name, b"", original.x, settings)
    _add_baselines(measured, original, _absolute(original.x, settings), settings)
    return measured


def samplings(codec: Codec, settings: MeasureSettings) -> list[Sampling]:
    """Return the samplings of the settings; empty if the model has no decoder."""
    return [sampling_of(sampler, codec) for sampler in settings.samplers] if codec.decoder is not None else []


def sampling_of(sampler: SamplerConfig, codec: Codec) -> Sampling:
    """Return the sampling of a section of the configuration; the model has the default number of steps."""
    steps = sampler.steps or codec.default_sampling.steps
    return Sampling(
        steps, sampler.kind, sampler.gamma, sampler.realism, sampler.grain, sampler.finish, stop=sampler.stop
    )


_Target = tuple[int, str]
"""A file size in bytes, and its name after "at most" and "at least"."""


def _relative(num_bytes: int, settings: MeasureSettings) -> list[_Target]:
    return [(max(1, round(rate * num_bytes)), rate_name(rate)) for rate in settings.baseline_rates]


def _absolute(x: RgbArray, settings: MeasureSettings) -> list[_Target]:
    num_pixels = x.shape[0] * x.shape[1]
    return [(max(1, round(bpp * num_pixels / 8)), bpp_name(bpp)) for bpp in settings.baseline_bpp]


def _add_baselines(
    measured: Measured, original: Original, targets: Sequence[_Target], settings: MeasureSettings
) -> None:
    for baseline in _codecs_for(original.x, settings):
        for target in targets:
            try:
                found = _around(baseline, original, target, settings.vgg16)
            except DataError as error:
                if error.reason == "codec-failed":
                    print(f"hfd: {measured.name}: {error}", file=sys.stderr, flush=True)
                elif error.reason != "codec-limit":
                    raise
                # The picture stays in the evaluation; the counts of the summary show the rows without it.
                break
            for curve, image in found:
                measured.add(curve, image, settings)


def _codecs_for(x: RgbArray, settings: MeasureSettings) -> Iterator[Baseline]:
    """Yield the wanted codecs that this machine has."""
    yield from (baseline for baseline in available_baselines()[0] if baseline.name in settings.baselines)
    height, width = x.shape[:2]
    for entry in settings.external:
        if not missing_programs(entry):
            yield External(entry, (height, width))


def _around(
    baseline: Baseline, original: Original, target: _Target, vgg16: Vgg16File | None
) -> list[tuple[Curve, DecodedImage]]:
    """Return the pictures of the nearest files on both sides of a size."""
    found, x = [], original.x
    target_bytes, name = target
    for side, encoded in zip(SIDES, bracket_rate(baseline, x, target_bytes), strict=True):
        if encoded is None:
            continue
        # Bracketing encodes many times; measure the time of one encoding.
        _, encode_s = _timed(functools.partial(baseline.encode, x, encoded.quality))
        picture, decode_s = _timed(functools.partial(baseline.decode, encoded.data))
        image = DecodedImage(original, picture, len(encoded.data), encode_s, decode_s, vgg16=vgg16)
        found.append(((baseline.name, f"{side} {name}"), image))
    return found


def features_of(x: RgbArray, settings: MeasureSettings) -> dict[BackboneName, FeatureArray]:
    """Compute the features (P, D) of a picture's patches by every network."""
    found: dict[BackboneName, FeatureArray] = {"efficientnet": effnet_features()(fid_patches(x, settings.patch_px))}
    if settings.backbones:
        patches = fid_patches(x, PROTOCOL_PX)
        found |= {file.name: read_backbone(file, settings.device)(patches) for file in settings.backbones}
    return found


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started
