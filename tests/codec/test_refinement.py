"""Latents refined by gradient descent: a lower loss of the real file, within the format, on any part of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hfd
from hfd.autoencoder import refine as refine_module
from hfd.autoencoder.rates import DEFAULT_RATE, step_of
from hfd.autoencoder.refine import MARGIN_CELLS, Objective, TileRefinement, refined
from hfd.autoencoder.weights import read_autoencoder
from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.codec.encode import Target, encode
from hfd.codec.picture.content import picture_of_array
from hfd.codec.refinement import MAX_REFINE_STEPS, compress
from hfd.engine.base import CELL_PX, Values
from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box
from hfd.image.load import RgbArray
from hfd.io.model_folders import find_model
from hfd.kinds import EngineKind
from hfd.metrics.distortion import psnr
from tests.support.absent import hfd_without
from tests.support.command_line import Hfd
from tests.support.errors import one_line
from tests.support.pictures import photograph

STEPS = 30


def loss(codec: Codec, x: RgbArray, data: bytes, rate: int = DEFAULT_RATE) -> float:
    """lmbda 255^2 MSE / step^2 + bpp of the real file, from its decoded pixels."""
    mse = 10.0 ** (-psnr(x, codec.reconstruct(data)) / 10.0)
    weight = codec.autoencoder.config["lmbda"] / step_of(rate) ** 2 * 255**2
    return float(weight * mse + 8 * len(data) / x[..., 0].size)


def file_of(codec: Codec, x: RgbArray, steps: int, rate: int = DEFAULT_RATE) -> bytes:
    return compress(codec, x, steps=steps, rate=rate).data


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load(find_model("desk-025"))


@pytest.fixture(scope="module")
def x() -> RgbArray:
    """A picture whose sides are no multiples of 64."""
    return photograph(150, 200)


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_file_gets_a_lower_loss(x: RgbArray, engine: EngineKind) -> None:
    codec = Codec.load(find_model("desk-025"), engine=engine)
    plain, better = (file_of(codec, x, steps) for steps in (0, STEPS))
    assert loss(codec, x, better) < 0.99 * loss(codec, x, plain)
    assert unpack(better).model == unpack(plain).model


@pytest.mark.parametrize("rate", [110, 150])
def test_latent_is_refined_for_the_rate_of_the_file(codec: Codec, x: RgbArray, rate: int) -> None:
    plain, better = (file_of(codec, x, steps, rate) for steps in (0, STEPS))
    assert unpack(better).rate == rate
    assert loss(codec, x, better, rate) < 0.995 * loss(codec, x, plain, rate)


def test_same_picture_gets_the_same_file(codec: Codec, x: RgbArray) -> None:
    assert file_of(codec, x, 4) == file_of(codec, x, 4)


def test_too_few_steps_change_nothing(codec: Codec, x: RgbArray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine_module, "LEARNING_RATE", 10.0)  # certain to end higher
    assert file_of(codec, x, 2) == file_of(codec, x, 0)


def test_tiles_are_refined_with_their_surroundings(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    x = photograph(320, 450)
    plain, whole = (loss(codec, x, file_of(codec, x, steps)) for steps in (0, STEPS))
    monkeypatch.setattr(refine_module, "TILE_CELLS", 8)
    in_tiles = loss(codec, x, file_of(codec, x, STEPS))
    assert plain - in_tiles > 0.8 * (plain - whole) > 0.0


def test_tiles_cover_the_latent_once_and_read_no_other_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    stage1 = read_autoencoder(find_model("desk-025") / "autoencoder")
    x = photograph(320, 500)
    codec = Codec.load(find_model("desk-025"), engine="torch")
    latents = codec.analyse(lambda first, last: x[first:last], 500, 320).latents
    monkeypatch.setattr(refine_module, "TILE_CELLS", 8)

    def one_more_where_free(task: TileRefinement) -> torch.Tensor:
        return torch.where(task.free, task.y.detach() + 1.0, torch.nan)

    monkeypatch.setattr(TileRefinement, "descend", lambda _, steps: range(steps))
    monkeypatch.setattr(TileRefinement, "better", one_more_where_free)
    read: list[Box] = []

    def pixels(box: Box) -> Values:
        read.append(box)
        return np.zeros((1, 3, box.height, box.width), np.float32)

    steps: list[tuple[int, int]] = []
    found = refined(
        stage1.model, latents, pixels, (320, 500), Objective(0.0038), steps=2, on_step=lambda *done: steps.append(done)
    )
    assert steps == [(i + 1, 24) for i in range(24)]
    np.testing.assert_array_equal(found.y, latents.y + 1.0)
    np.testing.assert_array_equal(found.z, latents.z)
    assert len(read) == 3 * 4
    for box in read:
        assert box.clipped(320, 500) == box
        assert max(box.shape) <= CELL_PX * (8 + 2 * MARGIN_CELLS)


def test_limit_on_bytes_is_kept(x: RgbArray) -> None:
    picture, models = picture_of_array(x), [find_model("desk-025")]
    plain = encode(picture, Target(num_bytes=1500), models)
    better = encode(picture, Target(num_bytes=1500), models, refine_steps=STEPS)
    assert better.rate == plain.rate
    assert len(better.data) <= 1500
    assert better.data != plain.data


def test_grey_picture_stays_grey() -> None:
    grey = np.repeat(photograph(130, 130)[..., :1], 3, axis=2)
    decoded = hfd.decompress(hfd.compress(grey, model="desk-025", refine=3))
    assert decoded.mode == "L"


def test_python_and_pillow_refine_alike(x: RgbArray, tmp_path: Path) -> None:
    import hfd.pillow_plugin  # registers the format

    data = hfd.compress(x, model="desk-025", refine=STEPS)
    assert data != hfd.compress(x, model="desk-025")
    Image.fromarray(x).save(tmp_path / "a.hfd", model="desk-025", refine=STEPS)
    assert (tmp_path / "a.hfd").read_bytes() == data


def test_command_refines_one_picture_and_a_folder(x: RgbArray, tmp_path: Path, hfd: Hfd) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(x).save(pictures / name)
    assert hfd("compress", pictures, "-o", tmp_path / "out", "--model", "desk-025", "--refine", STEPS).code == 0
    assert hfd("compress", pictures / "a.png", "--model", "desk-025", "--refine", STEPS).code == 0
    one = (pictures / "a.hfd").read_bytes()
    assert (tmp_path / "out" / "b.hfd").read_bytes() == one == (tmp_path / "out" / "a.hfd").read_bytes()


@pytest.mark.parametrize("steps", [-1, MAX_REFINE_STEPS + 1, 2.5, "many"])
def test_steps_are_a_number(x: RgbArray, steps: Any) -> None:
    with pytest.raises(ConfigError, match=f"refine: got {steps}, expected a whole number from 0 to 10000") as error:
        encode(picture_of_array(x), Target(), [find_model("desk-025")], refine_steps=steps)
    one_line(error)


def test_model_without_lmbda_is_named(x: RgbArray) -> None:
    codec = Codec.load(find_model("desk-025"), engine="torch")
    object.__setattr__(codec.autoencoder, "config", {})
    with pytest.raises(DataError, match="model: got no lmbda"):
        file_of(codec, x, 1)


def test_without_torch_one_line_says_so(x: RgbArray, tmp_path: Path) -> None:
    Image.fromarray(x).save(tmp_path / "a.png")
    ended = hfd_without(["torch"], "compress", tmp_path / "a.png", "--refine", 10, cwd=tmp_path)
    assert ended.returncode == 2
    assert "refine: got steps, but torch, which computes gradients, is not installed" in ended.stderr
