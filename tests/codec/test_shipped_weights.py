"""The shipped weights match their card, on photographs used neither for training nor for selection."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import MODELS, find_model, former_models, shipped_models
from hfd.metrics.distortion import psnr
from hfd.metrics.spectrum import top_octave_energy
from pipelines.corpus.listing import BUILTIN, list_corpus
from tests.support.command_line import Hfd

pytestmark = pytest.mark.integration

NAMES = ["desk-012", "desk-025"]
FORMER = ["desk-012-46469781", "desk-025-1bdbc6d0"]
MOST_BYTES = 45_000_000


@cache
def photographs() -> dict[str, RgbArray]:
    """Parts of photographs that a dependency ships, 256 x 256."""
    corpus = list_corpus(BUILTIN, setting="data.uri")
    wanted = {"skimage/astronaut.png": (0, 128), "skimage/chelsea.png": (20, 100), "sklearn/china.jpg": (100, 200)}
    read = {photo.key: load_rgb(photo.read(), name=photo.key) for photo in corpus.photos if photo.key in wanted}
    return {key: read[key][top : top + 256, left : left + 256] for key, (top, left) in wanted.items()}


@cache
def codec(name: str) -> Codec:
    return Codec.load(find_model(name))


@cache
def decoded(name: str, key: str) -> tuple[float, RgbArray, RgbArray]:
    """bpp, x_hat and the sample at the model's own setting."""
    compressed = codec(name).compress(photographs()[key])
    x_hat = codec(name).reconstruct(compressed.data)
    return compressed.bpp, x_hat, codec(name).sample(x_hat, codec(name).default_sampling, seed=0)


def test_the_package_ships_these_and_they_are_not_too_large() -> None:
    assert list(shipped_models()) == NAMES
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) <= MOST_BYTES
    card = (MODELS / "README.md").read_text()
    for name in NAMES:
        assert codec(name).model.hex() in card, "the card is of these weights"


def test_former_models_are_named_by_the_files_that_they_made() -> None:
    """And stay as they were, so that those files decode; tests/golden has some."""
    assert list(former_models()) == FORMER
    for name in FORMER:
        assert name.endswith(f"-{codec(name).model.hex()}")


@pytest.mark.parametrize("name", NAMES)
def test_they_hold_up_on_photographs(name: str) -> None:
    """Loose bounds around the card's figures: weights that were mixed up or cut short miss them by far."""
    for key, x in photographs().items():
        bpp, x_hat, sample = decoded(name, key)
        assert bpp < 0.55, key
        assert psnr(x, x_hat) > 21.0, key
        assert psnr(x, sample) > psnr(x, x_hat) - 3.01, key


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_has_detail_that_x_hat_lacks(name: str) -> None:
    energies = [[top_octave_energy(x, got) for got in decoded(name, key)[1:]] for key, x in photographs().items()]
    x_hat, sample = np.mean(energies, axis=0)
    assert x_hat < 0.6
    assert sample > x_hat + 0.1 * (1.0 - x_hat)


def test_compress_and_decompress_need_no_model(hfd: Hfd, tmp_path: Path) -> None:
    x = photographs()["skimage/astronaut.png"]
    photo, file, picture = (tmp_path / name for name in ("photo.png", "photo.hfd", "decoded.png"))
    Image.fromarray(x).save(photo)
    assert hfd("compress", str(photo)).code == 0
    assert unpack(file.read_bytes()).model == codec("desk-025").model
    assert hfd("decompress", str(file), "--output", str(picture)).code == 0
    shown = load_rgb(picture, name=str(picture))
    assert shown.shape == x.shape and psnr(x, shown) > 21.0
