"""Files of earlier versions stay readable, to the last symbol; tests/golden/make.py describes them."""

from __future__ import annotations

import json
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.codec.library import model_that_made
from hfd.io.model_folders import find_model
from tests.support.format_reader import read_file, read_grey, read_metadata
from tests.support.paths import GOLDEN
from tests.support.scripts import load_script

EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
NAMES = sorted(EXPECTED["files"])


@cache
def codec() -> Codec:
    return Codec.load(find_model(EXPECTED["model"]))


@cache
def make() -> ModuleType:
    return load_script("tests/golden/make.py")


def test_every_file_is_expected_and_small() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.hfd")) == NAMES == sorted(make().golden_inputs())
    assert all((GOLDEN / f"{name}.hfd").stat().st_size < 1000 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_decodes_to_its_expected_content(name: str) -> None:
    data = (GOLDEN / f"{name}.hfd").read_bytes()
    expected: dict[str, Any] = EXPECTED["files"][name]
    found = json.loads(json.dumps(make().describe(data, codec())))
    assert found == expected
    x_hat = codec().reconstruct(data)
    assert x_hat.shape == (expected["height"], expected["width"], 3)
    assert model_that_made(unpack(data), None) == find_model(EXPECTED["model"])


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_shows_the_picture_that_it_was_made_of(name: str) -> None:
    """Approximately, since rounding differs between machines; large errors fail."""
    x, extras = make().golden_inputs()[name]
    data = (GOLDEN / f"{name}.hfd").read_bytes()
    error = np.abs(codec().reconstruct(data).astype(int) - x)
    assert error.mean() < 20  # most are beyond 30 when upside down
    held = make().read_extras(unpack(data), max_pixels=2**20)
    assert (held.icc, held.exif, held.sampling) == (extras.icc, extras.exif, extras.sampling)
    assert (held.is_grey, held.xmp) == (extras.is_grey, extras.xmp)
    np.testing.assert_array_equal(held.alpha, extras.alpha)


@pytest.mark.parametrize("name", NAMES)
def test_the_specification_reads_a_golden_file(name: str) -> None:
    expected = EXPECTED["files"][name]
    file = read_file((GOLDEN / f"{name}.hfd").read_bytes())
    assert (file.width, file.height, file.model.hex()) == (expected["width"], expected["height"], expected["model"])
    assert (file.rate, f"{file.checksum:08x}") == (expected["rate"], expected["checksum"])
    lengths = {"0": len(file.latents), **{str(tag): len(section) for tag, section in file.sections.items()}}
    assert lengths == expected["sections"]
    assert read_grey(file.sections) == expected["grey"]
    if 133 in file.sections:
        assert len(read_metadata(file.sections[133], 65_000)) == expected["xmp"]["bytes"]


def test_together_they_hold_every_kind_of_section() -> None:
    assert {tag for name in NAMES for tag in EXPECTED["files"][name]["sections"]} == {
        "0",
        "128",
        "129",
        "130",
        "131",
        "132",
        "133",
    }
