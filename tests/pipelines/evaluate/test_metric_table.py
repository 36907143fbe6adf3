"""A metric is added in one place: rows, schema, summary, tables, plots and tracked names follow."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfd.io.storage import Folder
from hfd.metrics import table
from hfd.metrics.of_image import DecodedImage
from hfd.metrics.table import METRICS, Metric, register
from hfd.perceptual.vgg16 import NAME, Vgg16File, read_vgg16
from hfd.report.content import Report, SummaryRow
from hfd.report.page import render
from hfd.report.summarise import CurveDistances, summarise
from hfd.report.tables import summary_text
from pipelines.evaluate.images import image_schema, row_name, write_measured
from pipelines.evaluate.measure import Coded, Measured, MeasureSettings, measure
from pipelines.evaluate.results import tracked_metrics
from pipelines.evaluate.rows import Part, all_rows, curves_of
from pipelines.runs.parts import StepPart
from tests.support.pictures import photograph
from tests.support.vgg16 import random_vgg16


def largest_error(image: DecodedImage) -> float:
    return float(np.abs(image.original.astype(int) - image.decoded).max())


@pytest.fixture
def extra() -> Iterator[Metric]:
    """One more per-image metric, registered for one test."""
    metric = Metric(
        "max_error",
        "max. error",
        1,
        "largest difference of one sample",
        of_image=largest_error,
        of_set=table.mean_of("max_error"),
        caption="Largest error of the set.",
    )
    register(metric)
    yield metric
    del METRICS[metric.name]


def measured(name: str, seed: int, vgg16: Vgg16File | None = None) -> Measured:
    x = photograph(72, 80, seed=seed)
    x_hat = np.clip(x.astype(int) + 5, 0, 250).astype(np.uint8)
    settings = MeasureSettings((), 64, ("jpeg",), (1.0,), 1 << 20, 1 << 20, vgg16=vgg16)
    return measure(Coded(name, x, bytes(900), 0.1, 1.0, x_hat, 2.0), [], settings)


def summary_of(rows: pa.Table, trained_on: tuple[str, ...] = ()) -> list[SummaryRow]:
    curves = curves_of(rows)
    distances = {(one.system, one.setting): CurveDistances() for one in curves}
    return summarise(curves, distances, trained_on)


def test_a_metric_is_added_by_one_entry(extra: Metric, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    images = {0: measured("a.png", 0), 1: measured("b.png", 1)}
    assert all(row.values[extra.name] == row.to_record()[extra.name] for image in images.values() for row in image.rows)
    assert image_schema().field(extra.name).type == "double"

    write_measured(StepPart(0, 1, folder, None), images)
    rows = pq.read_table(io.BytesIO(folder.read(row_name(0, 1))))
    stored = [row[extra.name] for row in rows.to_pylist() if row["system"] == "autoencoder"]
    assert stored == [image.rows[0].values[extra.name] for image in images.values()] and min(stored) >= 5.0

    summary = summary_of(rows)
    mean = summary[0].values[extra.name]
    assert mean == pytest.approx(np.mean(stored))
    assert tracked_metrics(summary[0])["autoencoder x_hat/max_error"] == mean
    assert extra.heading in summary_text(summary)

    listed = tuple(row for image in images.values() for row in image.rows)
    page = render(Report("Report", tuple(summary), listed, (), (), ()))
    assert page.count(f">{extra.heading}</button>") == 2  # the heading of both tables
    assert extra.caption in page and f'data-value="{stored[0]}"' in page


@pytest.fixture
def weights(tmp_path: Path) -> Vgg16File:
    """Random weights of the optional metrics."""
    data = random_vgg16()
    (tmp_path / NAME).write_bytes(data)
    return Vgg16File(str(tmp_path), hashlib.sha256(data).hexdigest())


def test_optional_metrics_have_columns_only_where_their_weights_are(weights: Vgg16File, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    images = {0: measured("a.png", 0, weights)}
    x, x_hat = (photograph(72, 80, seed=0), images[0].pictures["autoencoder", "x_hat"])
    values = images[0].rows[0].values
    expected = read_vgg16(weights).values(x, x_hat)
    assert values["dists"] == expected.dists > 0.0
    assert values["lpips_vgg"] == expected.lpips > 0.0
    write_measured(StepPart(0, 2, folder, None), images)
    write_measured(StepPart(1, 2, folder, None), {})  # all of its pictures were rejected
    summary = summary_of(all_rows([Part(folder, 0, 2), Part(folder, 1, 2)]), trained_on=("vgg16",))
    for name in ("dists", "lpips_vgg"):
        assert summary[0].values[name] == pytest.approx(values[name])
    text, page = summary_text(summary), render(Report("Report", tuple(summary), tuple(images[0].rows), (), (), ()))
    assert "LPIPS-VGG  DISTS" in text and page.count(">DISTS</button>") == 2

    write_measured(StepPart(0, 1, folder, None), {0: measured("a.png", 0)})
    without = summary_of(all_rows([Part(folder, 0, 1)]))
    assert "dists" not in without[0].values and "DISTS" not in summary_text(without)


@pytest.mark.parametrize(("shape", "missing"), [((8, 16384, 3), {"webp"}), ((65501, 8, 3), {"webp", "jpeg"})])
def test_a_picture_that_a_baseline_cannot_hold_lacks_its_rows_alone(
    shape: tuple[int, int, int], missing: set[str]
) -> None:
    x = np.zeros(shape, dtype=np.uint8)
    settings = MeasureSettings((), 64, ("jpeg", "webp"), (1.0, 2.0), 1 << 20, 1 << 20)
    measured = measure(Coded("a.png", x, bytes(900), 0.1, 1.0, x, 2.0), [], settings)
    assert {row.system for row in measured.rows} == {"autoencoder", "jpeg", "webp"} - missing


def test_a_name_is_registered_once(extra: Metric) -> None:
    with pytest.raises(ValueError, match=r"^metric: got the name 'max_error' again"):
        register(extra)


def test_the_columns_of_an_evaluation_are_those_of_earlier_ones() -> None:
    """Files and MLflow runs of earlier versions are compared with new ones by these names."""
    assert image_schema().names == [
        "image", "system", "setting", "width", "height", "num_bytes", "bpp", "bpp_est", "psnr", "ms_ssim",
        "top_octave_energy", "lpips", "encode_s", "decode_s",
    ]  # fmt: skip
    assert [metric.name for metric in table.set_metrics()] == [
        "bpp", "bpp_est", "psnr", "ms_ssim", "top_octave_energy", "fd_effnet", "kd_effnet", "lpips",
        "encode_s_per_mp", "decode_s_per_mp",
    ]  # fmt: skip
