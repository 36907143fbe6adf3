"""The rows of all images, from the files of the parts, and the values of each system and setting in them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hfd.io.storage import Folder
from hfd.metrics.table import image_metrics
from hfd.report.content import OUR_SYSTEMS, SharedImages
from hfd.report.summarise import Curve, CurveDistances, CurveRows, shared_images
from pipelines.evaluate.distances import CurveImages
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
    return table.take(pc.sort_indices(table, [(INDEX, "ascending")]))


def curves_of(table: pa.Table) -> list[CurveRows]:
    """Split the table by system and setting, in order of first appearance."""
    groups = table.group_by(["system", "setting"], use_threads=False).aggregate([]).to_pylist()
    curves = [(group["system"], group["setting"]) for group in groups]
    return [_curve_rows(curve, rows_on(table, curve)) for curve in curves]


def rows_on(table: pa.Table, curve: Curve) -> pa.Table:
    """Return the rows of one system at one setting."""
    system, setting = curve
    return table.filter(pc.and_(pc.equal(table["system"], system), pc.equal(table["setting"], setting)))


def _curve_rows(curve: Curve, rows: pa.Table) -> CurveRows:
    columns = {metric.name: rows[metric.name].drop_null().to_numpy() for metric in image_metrics(rows.column_names)}
    num_pixels = float(pc.sum(pc.multiply(rows["width"], rows["height"])).as_py())
    return CurveRows(*curve, len(rows), num_pixels, columns)


def curves_that_lack_images(curves: Sequence[CurveRows]) -> list[CurveImages]:
    """Return our headline curve with each curve that lacks some of its images: they are compared on what they share."""
    ours = next((rows for name in reversed(OUR_SYSTEMS) for rows in curves if rows.system == name), None)
    if ours is None:
        return []
    fewer = [(rows.system, rows.setting) for rows in curves if rows.num_images < ours.num_images]
    return [CurveImages((ours.system, ours.setting), shared_with=curve) for curve in fewer]


def shared_images_of(table: pa.Table, of: CurveImages, distances: CurveDistances) -> SharedImages:
    """Compute our row over the images that ``of`` shares with the other curve, and name the others."""
    assert of.shared_with is not None
    ours, theirs = rows_on(table, of.curve), rows_on(table, of.shared_with)
    has = pc.is_in(ours[INDEX], theirs[INDEX].combine_chunks())
    lacking = ours.filter(pc.invert(has))["image"].to_pylist()
    return shared_images(of.shared_with, _curve_rows(of.curve, ours.filter(has)), distances, lacking)
