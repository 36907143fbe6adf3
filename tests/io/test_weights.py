"""Weights folders: read back as written; tensors that do not fit are named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from hfd.errors import DataError
from hfd.io.storage import Folder
from hfd.io.tensors import load_strictly, read_weights, write_weights


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(str(tmp_path / "weights"))
    write_weights(folder, dict(small().named_parameters()), {"kind": "small", "sizes": [3, 4, 2]})
    return folder


def test_round_trip(folder: Folder) -> None:
    tensors, config, fingerprint = read_weights(folder)
    expected = dict(small().named_parameters())
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert config == {"format": 1, "kind": "small", "sizes": [3, 4, 2]}
    assert len(bytes.fromhex(fingerprint)) == 32
    assert read_weights(folder)[2] == fingerprint


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_values_are_bit_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = Folder(str(tmp_path))
    values = torch.randint(-(2**15), 2**15, (5, 7, 2)).to(dtype).permute(2, 0, 1)
    write_weights(folder, {"values": values}, {})
    back = read_weights(folder)[0]["values"]
    assert back.dtype == dtype and torch.equal(back, values)


def test_fingerprint_is_a_function_of_every_weight_and_setting(tmp_path: Path) -> None:
    tensors = {name: value.detach().clone() for name, value in small().named_parameters()}
    prints = set()

    def print_of(config: dict[str, int]) -> str:
        folder = Folder(str(tmp_path / str(len(prints))))
        write_weights(folder, tensors, config)
        return read_weights(folder)[2]

    original = print_of({"a": 1})
    prints.add(original)
    for value in tensors.values():
        flat = value.reshape(-1)
        for i in range(len(flat)):
            before = flat[i].clone()
            flat[i] = torch.nextafter(before, torch.tensor(torch.inf))
            prints.add(print_of({"a": 1}))
            flat[i] = before
    assert len(prints) == 1 + sum(value.numel() for value in tensors.values())
    assert print_of({"a": 2}) not in prints
    assert print_of({"a": 1}) == original


def test_config_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    monkeypatch.setattr(Folder, "write", lambda _self, name, _data: names.append(name))
    write_weights(Folder(str(tmp_path)), {}, {})
    assert names == ["weights.safetensors", "config.json"]


def test_load_strictly(folder: Folder) -> None:
    network = small()
    nn.init.zeros_(network[0].weight)
    load_strictly(network, read_weights(folder)[0], "here")
    assert torch.equal(network[0].weight, small()[0].weight)


def test_tensors_that_do_not_fit_are_named(folder: Folder) -> None:
    tensors = read_weights(folder)[0]
    network = small()
    before = network[1].bias.detach().clone()
    tensors["extra"] = tensors.pop("0.weight")
    tensors["1.weight"] = torch.zeros(2, 5)
    tensors["1.bias"] = tensors["1.bias"] + 1.0
    with pytest.raises(DataError) as caught:
        load_strictly(network, tensors, "place")
    assert str(caught.value) == (
        "place: weights do not fit the network: missing 0.weight; unknown extra; 1.weight is (2, 5), expected (2, 4)"
    )
    # Nothing is half loaded.
    assert torch.equal(network[1].bias, before)


@pytest.mark.parametrize("config", ['{"format": 2}', "{}", "[1]", "null", '{"format": "1"}'])
def test_other_formats_are_refused(folder: Folder, config: str) -> None:
    folder.write("config.json", config.encode())
    with pytest.raises(DataError, match=r"config.json: got format .*, expected 1"):
        read_weights(folder)


@pytest.mark.parametrize("config", ["", "{", "\x00\xff", '{"format": 1}{'])
def test_config_that_is_not_json_is_refused(folder: Folder, config: str) -> None:
    folder.write("config.json", config.encode("latin-1"))
    with pytest.raises(DataError, match="not readable weights"):
        read_weights(folder)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_missing_files_are_named(folder: Folder, name: str) -> None:
    folder.delete(name)
    with pytest.raises(DataError, match=f"{name}: got no such file"):
        read_weights(folder)


class Touch:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_not_run(folder: Folder, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bomb = pickle.dumps(Touch(mark))
    pickle.loads(bomb)
    assert mark.exists()  # the bomb works
    mark.unlink()
    archive = tmp_path / "archive.pt"
    torch.save({"0.weight": Touch(mark)}, archive)
    for data in (bomb, archive.read_bytes()):
        folder.write("weights.safetensors", data)
        with pytest.raises(DataError, match="not readable weights"):
            read_weights(folder)
        assert not mark.exists()


def test_damaged_weights_are_refused(folder: Folder) -> None:
    whole = folder.read("weights.safetensors")
    for data in (b"", whole[:7], whole[:100], whole[:-1], whole + b"\x00", b"\xff" * 64):
        folder.write("weights.safetensors", data)
        with pytest.raises(DataError, match="not readable weights"):
            read_weights(folder)


def test_files_are_plain_safetensors_and_json(folder: Folder) -> None:
    tensors = load(folder.read("weights.safetensors"))
    assert save(tensors) == folder.read("weights.safetensors")
    assert json.loads(folder.read("config.json"))["kind"] == "small"
