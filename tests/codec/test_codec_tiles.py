"""A shipped model by tiles and in batches: the pictures of the whole, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from hfd.codec.codec import Codec
from hfd.diffusion.sampling import Sampling
from hfd.errors import DataError
from hfd.geometry.box import Box, Tile
from hfd.geometry.plan import UnitKind, plan_units, stitched
from hfd.image.load import RgbArray
from hfd.io.model_folders import shipped_models
from tests.support.pictures import photograph

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load(shipped_models()["desk-025"])


def differ(a: RgbArray, b: RgbArray) -> tuple[int, float]:
    """Grey levels: the largest difference, and the mean."""
    error = np.abs(a.astype(int) - b)
    return int(error.max()), float(error.mean())


@pytest.mark.parametrize(("precision", "worst", "mean"), [("float32", 1, 0.001), ("bfloat16", 8, 0.5)])
@pytest.mark.parametrize(("steps", "kind"), [(1, UnitKind.TILES), (3, UnitKind.STEPS)])
def test_a_picture_by_its_plan_is_the_whole(
    codec: Codec, steps: int, kind: UnitKind, precision: str, worst: int, mean: float
) -> None:
    x_hat, settings, size = photograph(72, 901), Sampling(steps), (72, 901)
    whole = codec.sample(x_hat, settings, seed=5, precision=precision)
    units = plan_units([size], codec.reach(settings), unit_pixels=30_000, batch_pixels=1)
    assert {unit.kind for unit in units} == {kind}
    if kind is UnitKind.STEPS:
        assert len(units[0].tiles) > 1
        whole_tile, steps = Tile(Box(0, 0, *size), Box(0, 0, *size)), units[0].tiles
        found = codec.sample_tile(x_hat, settings, tile=whole_tile, size=size, seed=5, steps=steps, precision=precision)
    else:
        assert len(units) > 2
        cores = []
        for (tile,) in (unit.tiles for unit in units):
            box = tile.window
            part = x_hat[box.top : box.bottom, box.left : box.right]
            core = codec.sample_tile(part, settings, tile=tile, size=size, seed=5, precision=precision)
            cores.append((tile.core, core))
        found = stitched(*size, cores)
    got = differ(found, whole)
    assert got[0] <= worst and got[1] <= mean


def test_a_batch_is_its_pictures(codec: Codec) -> None:
    x_hats = [photograph(72, 96, seed=seed) for seed in range(3)]
    together = codec.sample_batch(x_hats, Sampling(1), seeds=[4, 5, 6], precision="float32")
    for x_hat, seed, found in zip(x_hats, (4, 5, 6), together, strict=True):
        alone = codec.sample(x_hat, Sampling(1), seed=seed, precision="float32")
        assert differ(found, alone)[0] <= 1


def test_without_a_decoder_nothing_is_sampled(codec: Codec) -> None:
    bare = Codec(codec.autoencoder, None)
    with pytest.raises(DataError, match=r"^model: has no decoder"):
        bare.reach(Sampling(1))
    with pytest.raises(DataError, match=r"^model: has no decoder"):
        bare.sample_batch([photograph(64, 64)], Sampling(1), seeds=[0])
