"""Patches of one picture on a real Ray: the same picture, and workers that die."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hfd.codec.codec import Codec
from hfd.codec.patches import Piece, PixelSource
from hfd.diffusion.sampling import Sampling
from hfd.errors import ConfigError, DataError
from hfd.geometry.plan import PatchLayout, Scheme, plan_picture
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from pipelines.engine.ray_patches import map_on_ray
from tests.support.pictures import photograph

ONE_STEP = Sampling(1)
X_HAT = photograph(500, 420)
LAYOUTS = [PatchLayout(patch_pixels=330 * 330), PatchLayout(Scheme.FOUR_GROUPS, groups_px=128)]


@pytest.fixture
def cluster(ray_folder: Path) -> Iterator[None]:
    import ray

    assert ray_folder.is_dir()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def pieces_of(codec: Codec) -> list[Piece]:
    plan = plan_picture(*X_HAT.shape[:2], codec.reach(ONE_STEP), LAYOUTS[0])
    source = PixelSource(X_HAT)
    return [
        Piece(patch, source.size, source.cut(patch.tile.window), (), ONE_STEP, 0, "float32") for patch in plan.groups[0]
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_picture_is_that_of_a_plain_loop(model_folder: Folder, tmp_path: Path) -> None:
    codec = Codec.load(model_folder)
    for layout in LAYOUTS:
        assert plan_picture(*X_HAT.shape[:2], codec.reach(ONE_STEP), layout).num_patches > 3
        alone = codec.sample(X_HAT, ONE_STEP, seed=3, precision="float32", layout=layout)
        shared = codec.sample(X_HAT, ONE_STEP, seed=3, precision="float32", layout=layout, map_fn=map_on_ray)
        np.testing.assert_array_equal(shared, alone)

    def dies_once(piece: Piece) -> RgbArray:
        mark = tmp_path / str(piece.patch.tile.core.top)
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return np.full((1, 1, 3), piece.patch.tile.core.left % 256, np.uint8)

    pieces = pieces_of(codec)
    assert [int(x[0, 0, 0]) for x in map_on_ray(dies_once, pieces)] == [
        piece.patch.tile.core.left % 256 for piece in pieces
    ]
    assert len(list(tmp_path.iterdir())) > 1

    def always_dies(piece: Piece) -> RgbArray:
        del piece
        os._exit(1)

    with pytest.raises(DataError, match=r"^workers: got some that keep dying") as caught:
        list(map_on_ray(always_dies, pieces))
    assert caught.value.reason == "worker-killed"

    def refuses(piece: Piece) -> RgbArray:
        del piece
        raise DataError("a mistake of the user's")

    with pytest.raises(DataError, match="a mistake of the user's"):
        list(map_on_ray(refuses, pieces))


def test_without_a_cluster_it_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^ray: got no cluster, expected one\. Call ray\.init first$"):
        list(map_on_ray(len, []))  # type: ignore[arg-type]
