"""The rows of all images from the files of the parts, and the worst and best pictures in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hfd.io.storage import Folder
from hfd.metrics.table import image_metrics
from hfd.report.content import ImageRow
from hfd.report.summarise import Curve
from pipelines.evaluate.images import INDEX, write_measured
from pipelines.evaluate.measure import Measured
from pipelines.evaluate.rows import Part, all_rows, curve_labels, extremes_of_table
from pipelines.runs.parts import StepPart

X_HAT, SAMPLE = ("autoencoder", "x_hat"), ("sample", "1 step")
LOW, HIGH = ("jpeg", "at most our rate"), ("jpeg", "at least our rate")


def measured(index: int, psnr: Mapping[Curve, float]) -> Measured:
    name = f"{index:02}.png"
    rows = [
        ImageRow(name, *curve, 64, 64, 99, {**{metric.name: None for metric in image_metrics()}, "psnr": value})
        for curve, value in psnr.items()
    ]
    return Measured(name, b"", {}, rows)


def written(folder: Folder, indices: Sequence[Sequence[int]], psnr: Mapping[Curve, float]) -> list[Part]:
    """Write the images of each part; values rise with the index."""
    for number, part in enumerate(indices):
        images = {index: measured(index, {curve: value + index for curve, value in psnr.items()}) for index in part}
        write_measured(StepPart(number, len(indices), folder, None), images, ())
    return [Part(folder, number, len(indices)) for number in range(len(indices))]


@pytest.mark.parametrize("indices", [[[0, 1], [2, 3, 4]], [[0, 3], [], [1, 4], [2]]])
def test_rows_are_in_the_order_of_the_images(tmp_path: Path, indices: list[list[int]]) -> None:
    """The parts of large pictures come last, whichever their place in the set."""
    table = all_rows(written(Folder(str(tmp_path)), indices, {X_HAT: 20.0, SAMPLE: 30.0}))
    assert table[INDEX].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert table["psnr"].to_pylist() == [value + index for index in range(5) for value in (20.0, 30.0)]


def test_the_worst_and_best_are_those_of_our_systems(tmp_path: Path) -> None:
    table = all_rows(written(Folder(str(tmp_path)), [range(12), range(12, 25)], {X_HAT: 20.0, LOW: 1.0, SAMPLE: 30.0}))
    found = extremes_of_table(table, [X_HAT, LOW, SAMPLE])
    assert [(one.row, one.metric) for one in found] == [("autoencoder (x_hat)", "psnr"), ("sample (stage 2)", "psnr")]
    assert found[1].worst == tuple((f"{index:02}.png", 30.0 + index) for index in range(10))
    assert found[1].best == tuple((f"{index:02}.png", 30.0 + index) for index in range(24, 14, -1))


def test_without_a_model_they_are_those_of_every_system_at_each_setting(tmp_path: Path) -> None:
    table = all_rows(written(Folder(str(tmp_path)), [range(3)], {LOW: 1.0, HIGH: 2.0}))
    found = extremes_of_table(table, [LOW, HIGH])
    assert [one.row for one in found] == ["JPEG, at most our rate", "JPEG, at least our rate"]
    assert curve_labels([X_HAT, LOW]) == {X_HAT: "autoencoder (x_hat)", LOW: "JPEG"}
