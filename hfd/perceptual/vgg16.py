"""LPIPS with VGG16 and DISTS, whose weights a user has in a file: they are too large to ship.

``python -m hfd.perceptual.convert_vgg16`` writes the file. Pictures of any size are measured in bands of
rows, exactly.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from hfd.io.tensors import load_strictly
from hfd.perceptual.dists import DistsMap, JointSums, MapOfOne, dists_of_sums, l2_pool
from hfd.perceptual.inference import Layers, RowPool, bands_of, for_inference, normalised
from hfd.perceptual.networks import VGG16_WHOLE, FrozenFeatures
from hfd.perceptual.unit_distances import LinearTap, MeanDistances

NAME = "vgg16-metrics.safetensors"
SHA256 = "0c26f772ce7ee2f2bbc834a0cd729d475254011d84756ccb34f6217f91bdebf0"
"""SHA-256 of the file that :mod:`hfd.perceptual.convert_vgg16` writes from the packages that it names."""

LEAST_SIDE_PX = 16
"""Smaller pictures would leave VGG16's last map empty."""

LINEAR, ALPHA, BETA = "lpips.", "dists.alpha", "dists.beta"
"""Names of LPIPS's linear layers, by their number, and of DISTS's weights of texture and structure."""

BAND_PIXELS = 2**18
"""Pixels of a band: about 1 GB for both pictures."""

L2_POOL = RowPool(l2_pool, kernel=3, padding=1)
"""DISTS's pooling."""

_MOST_BYTES = 2**26
_DISTS_CHANNELS = 3 + sum(layer.outputs for layer in VGG16_WHOLE if layer.tap)

_Value = TypeVar("_Value")
_Metric = Literal["lpips", "dists"]
_Step = tuple[_Metric, int, Tensor]
"""A map (1, C, h, w) of a metric, and its number."""


@dataclass(frozen=True)
class Vgg16File:
    """``folder``: that of the file ``NAME``, by URI; ``sha256``: the expected checksum of the file, hex."""

    folder: str
    sha256: str = SHA256


@dataclass(frozen=True)
class Vgg16Values:
    """LPIPS-VGG, and DISTS: 0 for equal pictures, at most 1. Lower is better."""

    lpips: float
    dists: float


@dataclass(frozen=True, eq=False)
class BandOfOriginal:
    """The rows that a band of the original completes: of each tap those at unit length for LPIPS, and for DISTS the
    picture's and each tap's; None: none."""

    units: list[Tensor | None]
    maps: list[MapOfOne | None]


@dataclass(frozen=True, eq=False)
class Vgg16Metrics:
    """VGG16 and the weights of its taps for LPIPS and, with those of the picture's channels before them, for DISTS;
    float32 on the CPU."""

    network: FrozenFeatures
    linear: tuple[LinearTap, ...]
    weights: tuple[DistsMap, ...]

    @classmethod
    def of(cls, network: FrozenFeatures, linear: Sequence[Tensor], alpha: Tensor, beta: Tensor) -> Vgg16Metrics:
        """``linear``: of each tap (C_i,); ``alpha``, ``beta``: of all channels of the picture and the taps (1475,)."""
        sizes = [3, *network.widths]
        ends = list(itertools.accumulate(sizes))
        weights = [
            DistsMap.of(alpha[end - size : end], beta[end - size : end]) for size, end in zip(sizes, ends, strict=True)
        ]
        return cls(for_inference(network), tuple(LinearTap.of(one) for one in linear), tuple(weights))

    def values(self, original: RgbArray, decoded: RgbArray, *, band_pixels: int = BAND_PIXELS) -> Vgg16Values:
        """Both distances of two pictures, uint8 (H, W, 3) of one size, at least 16 px a side."""
        return self.values_of(self.prepared(original, band_pixels=band_pixels), decoded, band_pixels=band_pixels)

    @torch.no_grad()
    def prepared(self, original: RgbArray, *, band_pixels: int = BAND_PIXELS) -> Iterator[BandOfOriginal]:
        """Yield what the metrics need of an original, by bands; in a list, for any number of its decoded versions:
        563 bytes a pixel."""
        for steps in self._bands(original, band_pixels):
            units: list[Tensor | None] = [None] * len(self.linear)
            maps: list[MapOfOne | None] = [None] * len(self.weights)
            for metric, index, h in steps:
                if metric == "lpips":
                    units[index] = self.linear[index].unit(h)
                else:
                    maps[index] = self.weights[index].view(h)
            yield BandOfOriginal(units, maps)

    @torch.no_grad()
    def values_of(
        self, original: Iterable[BandOfOriginal], decoded: RgbArray, *, band_pixels: int = BAND_PIXELS
    ) -> Vgg16Values:
        """:meth:`values` from :meth:`prepared` of the original, with the same bands."""
        distances, sums = MeanDistances(self.linear), [JointSums.nothing(one) for one in self.weights]
        for own, steps in zip(original, self._bands(decoded, band_pixels), strict=True):
            for metric, index, h in steps:
                if metric == "lpips":
                    distances.add(index, _present(own.units[index]), h)
                else:
                    sums[index] += JointSums.of(_present(own.maps[index]), self.weights[index].view(h))
        return Vgg16Values(distances.lpips(), dists_of_sums(sums, self.weights))

    def _bands(self, x: RgbArray, band_pixels: int) -> Iterator[Iterator[_Step]]:
        layers, convs = self.network.layers, list(self.network.convs)
        start = next(index for index, layer in enumerate(layers) if layer.pool is not None)
        head = Layers(layers[:start], convs[:start])
        by_pool: dict[_Metric, Layers] = {
            "lpips": Layers(layers[start:], convs[start:]),
            "dists": Layers(layers[start:], convs[start:], L2_POOL),
        }
        bands = bands_of(x.shape[0], x.shape[1], band_pixels)
        for rows in bands:
            yield self._steps(x[rows], head, by_pool, last=rows is bands[-1])

    def _steps(self, rows: RgbArray, head: Layers, by_pool: dict[_Metric, Layers], *, last: bool) -> Iterator[_Step]:
        """Both metrics share the layers up to the first pooling."""
        yield "dists", 0, torch.tensor(rows).permute(2, 0, 1).unsqueeze(0).float() / 255.0
        (first,) = head(normalised(self.network, rows), last=last)
        for metric, layers in by_pool.items():
            taps = itertools.chain([first], layers(first, last=last))
            for index, h in enumerate(taps):
                if h is not None:
                    yield metric, index if metric == "lpips" else index + 1, h


def _present(value: _Value | None) -> _Value:
    """Two pictures of one size complete the same rows."""
    assert value is not None
    return value


@lru_cache(maxsize=2)
def read_vgg16(file: Vgg16File) -> Vgg16Metrics:
    """Read the weights, once per process. Raises :class:`DataError`: missing, or of another checksum, name or shape."""
    folder = Folder(file.folder)
    where = f"{folder.uri}/{NAME}"
    if not folder.exists(NAME):
        raise DataError(
            f"{where}: got no such file, expected the weights of LPIPS-VGG and DISTS. Make it with "
            "python -m hfd.perceptual.convert_vgg16",
            reason="io",
        )
    with folder.open_input(NAME) as stream:
        data = bytes(stream.read(_MOST_BYTES))  # a larger file has another checksum
    got = hashlib.sha256(data).hexdigest()
    if got != file.sha256:
        raise DataError(
            f"{where}: got SHA-256 {got}, expected {file.sha256}. Make the file again, or set evaluate.vgg16_sha256",
            reason="io",
        )
    return build_vgg16(data, where)


@torch.inference_mode(False)  # cached, as hfd.perceptual.weights.read_frozen
def build_vgg16(data: bytes, where: str) -> Vgg16Metrics:
    """As :func:`read_vgg16`, from the bytes of a file. Raises :class:`DataError` that names the fault."""
    try:
        tensors = {key: tensor.float() for key, tensor in load(data).items()}
    except SafetensorError as error:
        raise DataError(f"{where}: not readable weights ({error}). Make the file again", reason="io") from error
    network = FrozenFeatures(VGG16_WHOLE)
    expected = {f"{LINEAR}{index}": width for index, width in enumerate(network.widths)}
    expected |= dict.fromkeys((ALPHA, BETA), _DISTS_CHANNELS)
    own = {name: tensors.pop(name, torch.empty(0)) for name in expected}
    for name, width in expected.items():
        if tuple(own[name].shape) != (width,) or not bool(own[name].isfinite().all()):
            raise DataError(
                f"{where}: {name}: got {tuple(own[name].shape)}, expected {(width,)} finite numbers. "
                "Make the file again",
                reason="io",
            )
    load_strictly(network, tensors, where)
    linear = [own[f"{LINEAR}{index}"] for index in range(len(network.widths))]
    network = network.to(memory_format=torch.channels_last)
    return Vgg16Metrics.of(network, linear, own[ALPHA], own[BETA])
