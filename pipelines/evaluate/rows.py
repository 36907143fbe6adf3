"""The rows of all images, from the files of the parts, and the values of each system and setting in them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hfd.io.storage import Folder
from hfd.metrics.table import image_metrics
from hfd.report.content import OUR_SYSTEMS, Extremes, system_label
from hfd.report.extremes import extremes_of_row
from hfd.report.summarise import Curve, CurveRows
from pipelines.evaluate.images import INDEX, row_name
from pipelines.runs.parts import READ_THREADS


@dataclass(frozen=True)
class Part:
    """Location of the rows and features of a part."""

    folder: Folder
    index: int
    count: int


def all_rows(parts: Sequence[Part]) -> pa.Table:
    """Return the rows of all images in order, with the image's index in an additional column."""

    def read(part: Part) -> pa.Table:
        return pq.read_table(io.BytesIO(part.folder.read(row_name(part.index, part.count))))

    with ThreadPoolExecutor(READ_THREADS) as pool:
        # A part without images has no columns of optional metrics.
        table = pa.concat_tables(pool.map(read, parts), promote_options="default")
    index = table[INDEX].to_numpy()
    if np.all(index[:-1] <= index[1:]):
        return table  # as parts without large pictures are: the sorted copy would double the memory
    return table.take(pc.sort_indices(table, [(INDEX, "ascending")]))


def curves_of(table: pa.Table) -> list[CurveRows]:
    """Split the table by system and setting, in order of first appearance."""
    groups = table.group_by(["system", "setting"], use_threads=False).aggregate([]).to_pylist()
    curves = [(group["system"], group["setting"]) for group in groups]
    numbers = table.drop_columns(["image", "system", "setting"])  # names are most of a row
    return [curve_rows(curve, numbers.filter(_mask(table, curve))) for curve in curves]


def rows_on(table: pa.Table, curve: Curve) -> pa.Table:
    """Return the rows of one system at one setting."""
    return table.filter(_mask(table, curve))


def _mask(table: pa.Table, curve: Curve) -> pa.ChunkedArray:
    """Return which rows are of one system at one setting."""
    system, setting = curve
    return pc.and_(pc.equal(table["system"], system), pc.equal(table["setting"], setting))


def curve_rows(curve: Curve, rows: pa.Table) -> CurveRows:
    """Return the values of one system at one setting in its rows."""
    columns = {metric.name: rows[metric.name].drop_null().to_numpy() for metric in image_metrics(rows.column_names)}
    num_pixels = float(pc.sum(pc.multiply(rows["width"], rows["height"])).as_py())
    return CurveRows(*curve, len(rows), num_pixels, columns)


def extremes_of_curve(label: str, table: pa.Table, curve: Curve) -> list[Extremes]:
    """Return the worst and best pictures of one system at one setting, which has the name ``label``."""
    mask, names = _mask(table, curve), table["image"]
    places = np.flatnonzero(mask.to_numpy())
    columns = {
        metric.name: table[metric.name].filter(mask).cast(pa.float64()).to_numpy()
        for metric in image_metrics(table.column_names)
    }
    return extremes_of_row(label, lambda place: str(names[int(places[place])]), columns)


def curve_labels(curves: Sequence[Curve]) -> dict[Curve, str]:
    """Name each system, with its setting where it has several."""
    settings = Counter(system for system, _ in curves)
    return {
        (system, setting): system_label(system) if settings[system] == 1 else f"{system_label(system)}, {setting}"
        for system, setting in curves
    }


def extremes_of_table(table: pa.Table, curves: Sequence[Curve]) -> list[Extremes]:
    """Return the worst and best pictures of our systems or, without them, of every system."""
    labels = curve_labels(curves)
    wanted = [curve for curve in curves if curve[0] in OUR_SYSTEMS] or curves
    return [found for curve in wanted for found in extremes_of_curve(labels[curve], table, curve)]
