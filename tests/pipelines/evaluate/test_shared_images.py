"""Rows that lack images have a table of their own, beside others over the same images: groups, values, distances."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfd.config import ClusterConfig
from hfd.io.storage import Folder
from hfd.metrics.table import image_metrics
from hfd.report.content import Report, over_all_images
from hfd.report.page import render
from hfd.report.summarise import CurveDistances, distances_of_images, summary_row
from hfd.report.tables import fewer_text
from pipelines.engine.inline import Inline
from pipelines.evaluate.distances import (
    EFFNET,
    CurveImages,
    FeatureFile,
    feature_name,
    measure_distances,
    write_features,
)
from pipelines.evaluate.images import INDEX, image_schema, row_name, write_measured
from pipelines.evaluate.measure import Coded, Measured, MeasureSettings, measure
from pipelines.evaluate.results import tracked_metrics
from pipelines.evaluate.rows import curves_of
from pipelines.evaluate.subsets import Subset, fewer_images, subsets_of
from pipelines.runs.parts import StepPart
from tests.support.pictures import photograph

OURS, WEBP = ("autoencoder", "x_hat"), ("webp", "at most our rate")
ICON = "icon.png"
DISTANCES = CurveDistances({"fd_effnet": 12.0, "kd_effnet": 0.1})


def measured(name: str, side: int, num_bytes: int) -> Measured:
    """An icon of 16 px in 20 bytes: WebP, whose headers alone are larger, has no file of at most its rate."""
    x = photograph(side, side, seed=len(name))
    x_hat = np.clip(x.astype(int) + 5, 0, 250).astype(np.uint8)
    settings = MeasureSettings((), 16, ("webp",), (1.0,), 1 << 20, 1 << 20)
    return measure(Coded(name, x, bytes(num_bytes), 0.1, 1.0, x_hat, 2.0), [], settings)


@pytest.fixture(scope="module")
def images() -> list[Measured]:
    return [measured("a.png", 96, 900), measured(ICON, 16, 20), measured("other.png", 112, 1500)]


def rows_of(folder: Folder, images: list[Measured]) -> pa.Table:
    write_measured(StepPart(0, 1, folder, None), dict(enumerate(images)))
    return pq.read_table(io.BytesIO(folder.read(row_name(0, 1))))


def test_our_rows_are_measured_again_over_the_images_that_another_row_has(
    images: list[Measured], tmp_path: Path
) -> None:
    table = rows_of(Folder(str(tmp_path)), images)
    curves = curves_of(table)
    (subset,) = subsets_of(table, curves)
    assert subset == Subset((ICON,), (WEBP,), (OURS,))
    none = CurveDistances({"fd_effnet": None, "kd_effnet": None})
    summary = {
        (rows.system, rows.setting): summary_row(rows, none if rows.system == "autoencoder" else DISTANCES)
        for rows in curves
    }
    found = fewer_images(table, subset, summary, {subset.shared(OURS): DISTANCES})
    assert found.lacking == (ICON,) and found.rows == (summary[WEBP],) and found.num_images == 2
    (ours,) = found.beside
    assert ours.num_images == 2 and ours.values["fd_effnet"] == 12.0
    sizes = [(900, 96), (1500, 112)]
    assert ours.bpp == pytest.approx(np.mean([8 * size / side**2 for size, side in sizes]))


def test_a_table_of_fewer_images_holds_each_row_once_and_nothing_else_holds_it(
    images: list[Measured], tmp_path: Path
) -> None:
    table = rows_of(Folder(str(tmp_path)), images)
    summary = {(rows.system, rows.setting): summary_row(rows, DISTANCES) for rows in curves_of(table)}
    (subset,) = subsets_of(table, curves_of(table))
    fewer = fewer_images(table, subset, summary, {subset.shared(OURS): DISTANCES})
    main = over_all_images(summary.values(), [fewer])
    assert {(row.system, row.setting) for row in main} == set(summary) - {WEBP}
    assert {row.num_images for row in main} == {3}
    title, *lines = fewer_text(fewer).splitlines()
    assert title == "Without icon.png: 2 images"
    assert [line.split("  ")[0] for line in lines[2:]] == ["autoencoder (x_hat)", "WebP"]
    page = render(Report("", tuple(summary.values()), (), (), (), (), (fewer,)))
    whole, apart = page[page.index('id="summary"') : page.index('id="plots"')].split('<h3 class="subset">')
    assert "at least our rate" in whole and WEBP[1] not in whole
    assert apart.startswith("Without icon.png: 2 images</h3>") and WEBP[1] in apart and "at least" not in apart
    tracked = tracked_metrics(fewer.rows[0], lacks_images=True)
    assert tracked["webp at most our rate/fd_effnet 2 images"] == 12.0
    assert "webp at most our rate/fd_effnet" not in tracked


def test_rows_are_grouped_by_their_images_and_without_a_model_stand_beside_the_nearest_rates() -> None:
    def rows_on(system: str, setting: str, bpp: float, *numbers: int) -> list[dict[str, object]]:
        row = {"system": system, "setting": setting, "width": 8, "height": 8, "bpp": bpp}
        return [{INDEX: number, "image": f"{number}.png", **row} for number in numbers]

    listed = [
        *rows_on("jpeg", "low", 0.2, 0, 1, 2),
        *rows_on("jpeg", "high", 1.0, 0, 1, 2),
        *rows_on("webp", "high", 0.9, 0, 1, 2),
        *rows_on("theirs", "q1", 0.25, 0, 2),
        *rows_on("theirs", "q2", 0.8, 1, 2),
        *rows_on("others", "q1", 0.3, 0, 2),
        *rows_on("more", "q1", 0.3, 2, 3),  # a picture that no other has
    ]
    values = {metric.name: None for metric in image_metrics()}
    table = pa.Table.from_pylist(
        [{**values, **row} for row in sorted(listed, key=lambda row: int(str(row[INDEX])))],
        schema=image_schema().insert(0, pa.field(INDEX, pa.int64())),
    )
    found = {subset.curves: subset for subset in subsets_of(table, curves_of(table))}
    low, high, webp = ("jpeg", "low"), ("jpeg", "high"), ("webp", "high")
    assert found == {
        (("theirs", "q1"), ("others", "q1")): Subset(
            ("1.png", "3.png"), (("theirs", "q1"), ("others", "q1")), (low, webp)
        ),
        (("theirs", "q2"),): Subset(("0.png", "3.png"), (("theirs", "q2"),), (high, webp)),
        (("more", "q1"),): Subset(("0.png", "1.png"), (("more", "q1"),), ()),
    }


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
