"""The autoencoder's folder: bit-exact parameters and tables, and checks of the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.tables import EntropyTables
from hfd.autoencoder.weights import build_autoencoder, read_autoencoder, write_autoencoder
from hfd.errors import DataError
from hfd.io.storage import Folder
from tests.support.coders import tensor_coder
from tests.support.networks import lively_elic

CONFIG = {"arch": "elic", "N": 8, "M": 8, "groups": [4, 4], "lmbda": 0.002}


@pytest.fixture(scope="module")
def model() -> Elic:
    return lively_elic(8, 8, (4, 4))


@pytest.fixture(scope="module")
def tables(model: Elic) -> EntropyTables:
    return build_tables(model)


@pytest.fixture
def folder(tmp_path: Path, model: Elic, tables: EntropyTables) -> Folder:
    folder = Folder(str(tmp_path / "autoencoder"))
    write_autoencoder(folder, model, tables, CONFIG)
    return folder


def rewrite(folder: Folder, name: str, value: torch.Tensor | None) -> None:
    tensors = load(folder.read("weights.safetensors"))
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value.contiguous()
    folder.write("weights.safetensors", save(tensors))


def test_round_trip_is_bit_exact(folder: Folder, model: Elic, tables: EntropyTables) -> None:
    back = read_autoencoder(folder)
    assert dict(back.config) == {"format": 1, **CONFIG}
    theirs = dict(back.model.named_parameters())
    for name, value in model.named_parameters():
        assert torch.equal(theirs[name], value), name
    for here, there in ((tables.z, back.tables.z), (tables.y, back.tables.y)):
        assert np.array_equal(here.lengths, there.lengths) and np.array_equal(here.offsets, there.offsets)
        assert np.array_equal(here.cdf[:, : there.cdf.shape[1]], there.cdf)
        assert not bool(here.cdf[:, there.cdf.shape[1] :].any())
    assert np.array_equal(tables.scales, back.tables.scales)


def test_a_loaded_autoencoder_is_frozen_and_codes_alike(folder: Folder, model: Elic, tables: EntropyTables) -> None:
    back = read_autoencoder(folder)
    assert not back.model.training
    assert not any(parameter.requires_grad for parameter in back.model.parameters())
    x = torch.rand(1, 3, 64, 128)
    here, y_here = tensor_coder(model, tables).encode(x)
    there, y_there = tensor_coder(back.model, back.tables).encode(x)
    assert here == there and torch.equal(y_here, y_there)


def test_fingerprint_changes_with_weights_and_tables(folder: Folder) -> None:
    prints = {read_autoencoder(folder).fingerprint}
    for name in ("g_a.0.weight", "param_aggregation.1.0.bias", "tables.y.offsets", "tables.scales"):
        tensors = load(folder.read("weights.safetensors"))
        changed = tensors[name].clone()
        changed.view(-1)[0] += 1
        rewrite(folder, name, changed)
        prints.add(read_autoencoder(folder).fingerprint)
    assert len(prints) == 5


@pytest.mark.parametrize("name", ["g_a.0.weight", "tables.z.cdf", "tables.y.lengths", "tables.scales"])
def test_missing_tensors_are_named(folder: Folder, name: str) -> None:
    rewrite(folder, name, None)
    with pytest.raises(DataError, match=name):
        read_autoencoder(folder)


def test_unknown_and_misshapen_tensors_are_named(folder: Folder) -> None:
    rewrite(folder, "g_x.0.weight", torch.zeros(3))
    rewrite(folder, "g_a.0.weight", torch.zeros(8, 4, 5, 5))
    with pytest.raises(DataError, match=r"unknown g_x.0.weight; g_a.0.weight is \(8, 4, 5, 5\), expected"):
        read_autoencoder(folder)


@pytest.mark.parametrize("family", ["z", "y"])
@pytest.mark.parametrize("part", ["cdf", "lengths", "offsets"])
def test_tables_that_do_not_fit_are_refused(folder: Folder, family: str, part: str) -> None:
    name = f"tables.{family}.{part}"
    whole = load(folder.read("weights.safetensors"))[name]
    for broken in (whole[:-1], whole.float(), torch.cat([whole, whole[-1:]]), whole.reshape(1, -1)):
        rewrite(folder, name, broken)
        with pytest.raises(DataError, match=f"tables.{family}"):
            read_autoencoder(folder)


def test_tables_that_do_not_ascend_are_refused(folder: Folder) -> None:
    whole = load(folder.read("weights.safetensors"))["tables.z.cdf"]
    for place, value in ((0, 1), (3, int(whole[2])), (3, 2**16), (len(whole) - 1, 2**16 - 1)):
        broken = whole.clone()
        broken[place] = value
        rewrite(folder, "tables.z.cdf", broken)
        with pytest.raises(DataError, match=r"tables.z.cdf: got a row that does not ascend"):
            read_autoencoder(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"elic"', '"elick"', "arch: got 'elick', expected 'elic'"),
        ('"N": 8', '"n": 8', "'N'"),
        ('"M": 8', '"M": 9', "describes no network"),
        ('"M": 8', '"M": "many"', "describes no network"),
        ('"format": 1', '"format": 7', "got format 7, expected 1"),
        ('"N": 8', '"N": 16', r"tables.z: got .*, expected 16 rows"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(folder: Folder, old: str, new: str, message: str) -> None:
    config = folder.read("config.json").decode()
    assert old in config
    folder.write("config.json", config.replace(old, new).encode())
    with pytest.raises(DataError, match=message):
        read_autoencoder(folder)


def test_build_autoencoder() -> None:
    model = build_autoencoder(CONFIG)
    assert (model.N, model.M, model.groups) == (8, 8, (4, 4))
