"""A row that lacks images is compared with ours on the images that both have: case, names, values and distances."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfd.config import ClusterConfig
from hfd.io.storage import Folder
from hfd.report.summarise import CurveDistances, distances_of_images
from pipelines.engine.inline import Inline
from pipelines.evaluate.distances import (
    EFFNET,
    CurveImages,
    FeatureFile,
    feature_name,
    measure_distances,
    write_features,
)
from pipelines.evaluate.images import row_name, write_measured
from pipelines.evaluate.measure import Coded, Measured, MeasureSettings, measure
from pipelines.evaluate.rows import curves_of, curves_that_lack_images, shared_images_of
from pipelines.runs.parts import StepPart
from tests.support.pictures import photograph

OURS, WEBP = ("autoencoder", "x_hat"), ("webp", "at most our rate")
ICON = "icon.png"


def measured(name: str, side: int, num_bytes: int) -> Measured:
    """An icon of 16 px in 20 bytes: WebP, whose headers alone are larger, has no file of at most its rate."""
    x = photograph(side, side, seed=len(name))
    x_hat = np.clip(x.astype(int) + 5, 0, 250).astype(np.uint8)
    settings = MeasureSettings((), 16, ("webp",), (1.0,), 1 << 20, 1 << 20)
    return measure(Coded(name, x, bytes(num_bytes), 0.1, 1.0, x_hat, 2.0), [], settings)


@pytest.fixture(scope="module")
def images() -> list[Measured]:
    return [measured("a.png", 96, 900), measured(ICON, 16, 20), measured("other.png", 112, 1500)]


def test_the_rows_that_lack_images_are_found_and_the_images_named(images: list[Measured], tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_measured(StepPart(0, 1, folder, None), dict(enumerate(images)))
    table: pa.Table = pq.read_table(io.BytesIO(folder.read(row_name(0, 1))))
    curves = curves_of(table)
    (of,) = curves_that_lack_images(curves)
    assert of == CurveImages(OURS, shared_with=WEBP)
    shared = shared_images_of(table, of, CurveDistances({"fd_effnet": 12.0}))
    assert (shared.system, shared.setting, shared.lacking) == (*WEBP, (ICON,))
    assert shared.ours.num_images == 2 and shared.ours.values["fd_effnet"] == 12.0
    sizes = [(900, 96), (1500, 112)]
    assert shared.ours.bpp == pytest.approx(np.mean([8 * size / side**2 for size, side in sizes]))
    assert curves_that_lack_images([rows for rows in curves if rows.system != "autoencoder"]) == []


@pytest.mark.parametrize("exact_patches", [10_000, 1])
def test_distances_are_those_of_the_shared_images(images: list[Measured], tmp_path: Path, exact_patches: int) -> None:
    files = [FeatureFile(Folder(str(tmp_path)), feature_name(part, 3)) for part in range(3)]
    for file, image in zip(files, images, strict=True):
        write_features(file.folder, file.name, [image])
    curves = list(dict.fromkeys(curve for image in images for curve in image.features[EFFNET].decoded))
    of = CurveImages(OURS, shared_with=WEBP)
    found = measure_distances(
        Inline(ClusterConfig()),
        Folder(str(tmp_path)),
        {EFFNET: files},
        curves,
        num_patches={EFFNET: sum(image.num_patches(EFFNET) for image in images)},
        exact_patches=exact_patches,
        draws=0,
        shared=[of],
    )
    assert (found.num_blocks[EFFNET] > 0) == (exact_patches == 1)
    assert list(found.of_curves) == curves
    for curve, distances, chosen in (
        (OURS, found.of_curves[OURS], images),
        (OURS, found.shared[of], [image for image in images if image.name != ICON]),
    ):
        features = {image.name: image.features[EFFNET] for image in chosen}
        expected = distances_of_images(
            {name: one.original for name, one in features.items()},
            {name: one.decoded[curve] for name, one in features.items()},
            0,
        )
        assert distances.values["fd_effnet"] == pytest.approx(expected.values["fd_effnet"], rel=1e-6)
    assert found.shared[of].values["fd_effnet"] != found.of_curves[OURS].values["fd_effnet"]
