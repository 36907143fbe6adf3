"""A second decoder, as docs/latents.md describes it: integers in numpy, no torch, no library's coder."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from hfd.autoencoder import streams
from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.weights import write_autoencoder
from hfd.io.storage import Folder
from tests.support.coders import tensor_coder
from tests.support.networks import lively_elic

Ints = np.ndarray
N, M, GROUPS = 8, 12, (4, 8)
LIMIT = 2**24


class Stream:
    """A rANS stream of 32-bit words."""

    def __init__(self, data: bytes) -> None:
        self.words = list(struct.unpack(f"<{len(data) // 4}I", data))
        self.x = self.words[0] + (self.words[1] << 32)
        self.at = 2

    def refill(self) -> None:
        if self.x < 2**31:
            self.x = (self.x << 32) + (self.words[self.at] if self.at < len(self.words) else 0)
            self.at += 1

    def nibble(self) -> int:
        value, self.x = self.x % 16, self.x // 16
        self.refill()
        return value

    def symbol(self, row: list[int], offset: int) -> int:
        f = self.x % 65536
        v = max(i for i in range(len(row) - 1) if row[i] <= f)
        self.x = (row[v + 1] - row[v]) * (self.x // 65536) + f - row[v]
        self.refill()
        if v < len(row) - 2:
            return v + offset
        count = part = self.nibble()
        while part == 15:
            part = self.nibble()
            count += part
        r = sum(self.nibble() << (4 * i) for i in range(count))
        return (-(r // 2) - 1 if r % 2 else r // 2 + len(row) - 2) + offset


def integers(values: Ints, bits: int) -> Ints:
    return np.round(values.astype(np.float64) * 2.0**bits).astype(np.int64)


def convolve(x: Ints, weight: Ints, bias: Ints, lowest: int) -> Ints:
    """Zeros around the borders; the sum is rounded half up to units and saturates."""
    radius = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (radius, radius), (radius, radius)))
    sums = np.zeros((len(weight), *x.shape[1:]), np.int64) + bias[:, None, None] + 2**15
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            sums += np.einsum("oi,ihw->ohw", weight[:, :, i, j], window)
    return np.clip(sums // 2**16, lowest, LIMIT)


def network(tensors: Mapping[str, Ints], name: str, transposed: tuple[int, ...] = ()) -> Callable[[Ints], Ints]:
    """Layers at the even places of a sequence, a ReLU behind each but the last; ``transposed``: their strides."""
    places = [i for i in (0, 2, 4) if f"{name}.{i}.weight" in tensors]

    def run(x: Ints) -> Ints:
        x = np.clip(x, -LIMIT, LIMIT)
        for n, i in enumerate(places):
            weight, bias = integers(tensors[f"{name}.{i}.weight"], 16), integers(tensors[f"{name}.{i}.bias"], 26)
            if transposed:
                weight = weight.swapaxes(0, 1)[:, :, ::-1, ::-1]
                if transposed[n] == 2:
                    spread = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]), np.int64)
                    spread[:, ::2, ::2] = x
                    x = spread
            x = convolve(x, weight, bias, -LIMIT if i == places[-1] else 0)
        return x

    return run


def spatial(tensors: Mapping[str, Ints], k: int) -> Callable[[Ints], Ints]:
    weight, bias = integers(tensors[f"g_sp.{k}.weight"], 16), integers(tensors[f"g_sp.{k}.bias"], 26)
    rows, columns = np.indices(weight.shape[2:])
    weight = weight * ((rows + columns) % 2)
    return lambda anchors: convolve(np.clip(anchors, -LIMIT, LIMIT), weight, bias, -LIMIT)


def rows_of(tensors: Mapping[str, Ints], family: str) -> tuple[list[list[int]], list[int]]:
    ends = np.cumsum(tensors[f"tables.{family}.lengths"])
    rows = np.split(tensors[f"tables.{family}.cdf"], ends[:-1])
    return [row.tolist() for row in rows], tensors[f"tables.{family}.offsets"].tolist()


def split(payload: bytes, height: int, width: int) -> list[bytes]:
    band = max(4, 4 * (streams.BAND_POSITIONS // 4 // width))
    count = -(-height // band)
    if count == 1:
        return [payload]
    lengths = struct.unpack_from(f"<{1 + 2 * len(GROUPS) * count}I", payload)
    ends = np.cumsum([4 * len(lengths), *lengths])
    return [payload[a:b] for a, b in pairwise(ends)]


def decode(folder: Path, payload: bytes, rate: int, height: int, width: int) -> tuple[Ints, int]:
    """y_hat in units, and the checksum; height and width of y."""
    tensors = load_file(folder / "weights.safetensors")
    medians = integers(tensors["entropy_bottleneck.quantiles"][:, 0, 1], 10)
    step = round(1024 * 2 ** ((rate - 128) / 16))
    scales = [int(value) for value in integers(tensors["tables.scales"], 24)]
    thresholds = [isqrt(a * b) * step // 2**24 for a, b in pairwise(scales)]
    (rows_z, offsets_z), (rows_y, offsets_y) = rows_of(tensors, "z"), rows_of(tensors, "y")
    band = max(4, 4 * (streams.BAND_POSITIONS // 4 // width))
    count = -(-height // band)
    opened = [Stream(data) for data in split(payload, height, width)]
    crcs: list[int] = []

    def crc(symbols: list[int]) -> None:
        crcs.append(zlib.crc32(np.array(symbols, "<i4").tobytes()))

    z = np.zeros((N, height // 4, width // 4), np.int64)
    for i, j in np.ndindex(z.shape[1:]):
        z[:, i, j] = [opened[0].symbol(rows_z[c], offsets_z[c]) for c in range(N)]
    crc(z.transpose(1, 2, 0).flatten().tolist())
    hyper = network(tensors, "h_s", (2, 2, 1))(1024 * z + medians[:, None, None])
    done = np.zeros((0, height, width), np.int64)
    for k, channels in enumerate(GROUPS):
        side = hyper if k == 0 else np.concatenate([network(tensors, f"g_ch.{k - 1}")(done), hyper])
        y = np.zeros((channels, height, width), np.int64)
        context = np.zeros((2 * channels, height, width), np.int64)
        for phase in (0, 1):
            if phase == 1:
                context = spatial(tensors, k)(y)
            parameters = network(tensors, f"param_aggregation.{k}")(np.concatenate([context, side]))
            symbols: list[int] = []
            for i, j in ((i, j) for i, j in np.ndindex(height, width) if (i + j) % 2 == phase):
                stream = opened[0 if count == 1 else 1 + (2 * k + phase) * count + i // band]
                for c in range(channels):
                    row = sum(threshold < parameters[c, i, j] for threshold in thresholds)
                    symbols.append(stream.symbol(rows_y[row], offsets_y[row]))
                    y[c, i, j] = step * symbols[-1] + parameters[channels + c, i, j]
            crc(symbols)
        done = np.concatenate([done, y])
    return done, zlib.crc32(bytes([rate]) + b"".join(struct.pack("<I", value) for value in crcs))


@pytest.mark.parametrize(("rate", "band_positions"), [(128, 2**15), (117, 2**15), (140, 32)])
def test_a_second_decoder_reads_the_same(
    tmp_path: Path, rate: int, band_positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BAND_POSITIONS", band_positions)
    model = lively_elic(N, M, GROUPS, spread=30.0)
    with torch.no_grad():
        for aggregation in model.param_aggregation:
            aggregation[-1].weight.mul_(20.0)
    tables = build_tables(model)
    write_autoencoder(Folder(str(tmp_path)), model, tables, {"arch": "elic", "N": N, "M": M, "groups": list(GROUPS)})
    x = torch.rand(1, 3, 192, 64, generator=torch.Generator().manual_seed(5))
    coded, y_hat = tensor_coder(model, tables).encode(x, rate)
    y_hat_there, checksum = decode(tmp_path, coded.payload, rate, 12, 4)
    assert checksum == coded.checksum
    assert np.array_equal(y_hat_there, (y_hat[0].double().numpy() * 1024).astype(np.int64))
    assert float(y_hat.std()) > 5
