"""LPIPS with VGG16 and DISTS, whose weights a user has in a file: they are too large to ship.

``python -m hfd.perceptual.convert_vgg16`` writes the file. Pictures of any size are measured in tiles, exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from hfd.errors import DataError
from hfd.geometry.box import Box, Tile
from hfd.geometry.tiles import cut_into_tiles
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from hfd.io.tensors import load_strictly
from hfd.perceptual.dists import JointSums, dists_of_sums, joint_sums, l2_pool
from hfd.perceptual.inference import features_of
from hfd.perceptual.lpips import lpips_maps
from hfd.perceptual.networks import VGG16_WHOLE, Features, FrozenFeatures

NAME = "vgg16-metrics.safetensors"
SHA256 = "0c26f772ce7ee2f2bbc834a0cd729d475254011d84756ccb34f6217f91bdebf0"
"""SHA-256 of the file that :mod:`hfd.perceptual.convert_vgg16` writes from the packages that it names."""

LEAST_SIDE_PX = 16
"""Smaller pictures would leave VGG16's last map empty."""

LINEAR, ALPHA, BETA = "lpips.", "dists.alpha", "dists.beta"
"""Names of LPIPS's linear layers, by their number, and of DISTS's weights of texture and structure."""

STRIDE, REACH_PX = 16, 112
"""Grid of the last map, and at least the distance of a pixel that a position of it depends on, with either pooling."""

TILE_PIXELS = 2**20
"""Pixels of a tile, context included: about 2 GB of features of both pictures."""

_MOST_BYTES = 2**26
_DISTS_CHANNELS = 3 + sum(layer.outputs for layer in VGG16_WHOLE if layer.tap)


@dataclass(frozen=True)
class Vgg16File:
    """``folder``: that of the file ``NAME``, by URI; ``sha256``: the expected checksum of the file, hex."""

    folder: str
    sha256: str = SHA256


@dataclass(frozen=True, eq=False)
class Vgg16Metrics:
    """VGG16, LPIPS's weights of its taps (C_i,), and DISTS's weights ``alpha`` and ``beta`` of the picture's channels
    and those of the taps; float32 on the CPU."""

    network: FrozenFeatures
    linear: tuple[Tensor, ...]
    alpha: Tensor
    beta: Tensor

    @torch.no_grad()
    def lpips(self, original: RgbArray, decoded: RgbArray, *, tile_pixels: int = TILE_PIXELS) -> float:
        """LPIPS of two pictures, uint8 (H, W, 3) of one size, at least 16 px a side. Lower is better."""
        totals, counts = [0.0] * len(self.linear), [0] * len(self.linear)
        for tile, a, b in _tiles(original, decoded, tile_pixels):
            maps = lpips_maps(features_of(self.network, a), features_of(self.network, b), self.linear)
            for index, distances in enumerate(_cores(maps, tile, original.shape)):
                totals[index] += float(distances.double().sum())
                counts[index] += distances.numel()
        return sum(total / count for total, count in zip(totals, counts, strict=True))

    @torch.no_grad()
    def dists(self, original: RgbArray, decoded: RgbArray, *, tile_pixels: int = TILE_PIXELS) -> float:
        """DISTS of two pictures, uint8 (H, W, 3) of one size, at least 16 px a side: 0 for equal ones, at most 1."""
        total: list[JointSums] = []
        for tile, a, b in _tiles(original, decoded, tile_pixels):
            x, y = (_cores([(picture + 1.0) / 2.0], tile, original.shape)[0] for picture in (a, b))
            of_x, of_y = (
                _cores(features_of(self.network, picture, l2_pool), tile, original.shape) for picture in (a, b)
            )
            sums = joint_sums(x, y, of_x, of_y)
            total = [one + other for one, other in zip(total, sums, strict=True)] if total else sums
        return dists_of_sums(total, self.alpha, self.beta)


def _tiles(original: RgbArray, decoded: RgbArray, tile_pixels: int) -> Iterator[tuple[Tile, Tensor, Tensor]]:
    """Yield the tiles with both pictures' windows, (1, 3, h, w) in [-1, 1]."""
    height, width = original.shape[:2]
    whole = Box(0, 0, height, width)
    tiles = [Tile(whole, whole)]
    if height * width > tile_pixels:
        tiles = cut_into_tiles(height, width, REACH_PX, STRIDE, max_pixels=tile_pixels) or tiles
    for tile in tiles:
        a, b = (
            torch.tensor(picture[tile.window.slices]).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1.0
            for picture in (original, decoded)
        )
        yield tile, a, b


def _cores(maps: Features, tile: Tile, shape: Sequence[int]) -> Features:
    """The positions of the tile's core in each map (..., h_i, w_i) of its window; the last tiles have the rest."""
    height, width = shape[:2]
    found = []
    for level, one in enumerate(maps):
        top, left = (
            (core - window) >> level
            for core, window in ((tile.core.top, tile.window.top), (tile.core.left, tile.window.left))
        )
        below = None if tile.core.bottom == height else (tile.core.bottom - tile.window.top) >> level
        right = None if tile.core.right == width else (tile.core.right - tile.window.left) >> level
        found.append(one[..., top:below, left:right])
    return found


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
    linear = tuple(own[f"{LINEAR}{index}"] for index in range(len(network.widths)))
    return Vgg16Metrics(network.to(memory_format=torch.channels_last), linear, own[ALPHA], own[BETA])
