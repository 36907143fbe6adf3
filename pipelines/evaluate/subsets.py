"""Rows that lack images of the set, grouped by the images that they have, beside others over the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from hfd.report.content import OUR_SYSTEMS, FewerImages, SummaryRow
from hfd.report.summarise import Curve, CurveDistances, CurveRows, summary_row
from pipelines.evaluate.distances import CurveImages
from pipelines.evaluate.images import INDEX
from pipelines.evaluate.rows import curve_rows, rows_on


@dataclass(frozen=True)
class Subset:
    """Curves that lack images of the set, all of them the same ones.

    ``lacking``: the names of these images; ``beside``: curves over the whole set, to be measured again over the images
    of ``curves``.
    """

    lacking: tuple[str, ...]
    curves: tuple[Curve, ...]
    beside: tuple[Curve, ...]

    def shared(self, curve: Curve) -> CurveImages:
        """Return one of ``beside`` over the images of this subset."""
        return CurveImages(curve, shared_with=self.curves[0])


def subsets_of(table: pa.Table, curves: Sequence[CurveRows]) -> list[Subset]:
    """Group the curves that lack images by the images that they have, in order of first appearance.

    The whole set is that of the curve with the most images: ours, if there is one. Beside others stand our curves or,
    without a model, that curve of each system whose rate is nearest to that of the first of them.
    """
    if not curves:
        return []
    most = max(curves, key=lambda rows: rows.num_images)
    whole = _images_of(table, most)
    of_images: dict[bytes, list[CurveRows]] = {}
    for rows in curves:
        own = whole if rows is most else _images_of(table, rows)
        of_images.setdefault(own.to_numpy().tobytes(), []).append(rows)
    complete = of_images.pop(whole.to_numpy().tobytes())
    return [_subset(table, whole, rows, complete) for rows in of_images.values()]


def _subset(table: pa.Table, whole: pa.Array, rows: Sequence[CurveRows], complete: Sequence[CurveRows]) -> Subset:
    has = _images_of(table, rows[0])
    first = table.group_by(INDEX, use_threads=False).aggregate([("image", "first")])
    others = first.filter(pc.invert(pc.is_in(first[INDEX], has)))
    lacking = others.take(pc.sort_indices(others, [(INDEX, "ascending")]))["image_first"].to_pylist()
    curves = tuple((one.system, one.setting) for one in rows)
    if not pc.all(pc.is_in(has, whole)).as_py():
        return Subset(tuple(lacking), curves, ())
    return Subset(tuple(lacking), curves, tuple((one.system, one.setting) for one in _beside(rows[0], complete)))


def _beside(rows: CurveRows, complete: Sequence[CurveRows]) -> list[CurveRows]:
    ours = [one for one in complete if one.system in OUR_SYSTEMS]
    if ours:
        return ours
    nearest: dict[str, CurveRows] = {}
    for one in sorted(complete, key=lambda one: abs(math.log(_bpp_of(one) / _bpp_of(rows)))):
        nearest.setdefault(one.system, one)
    return [one for one in complete if nearest[one.system] is one]


def _bpp_of(rows: CurveRows) -> float:
    return float(rows.columns["bpp"].mean())


def _images_of(table: pa.Table, rows: CurveRows) -> pa.Array:
    return rows_on(table, (rows.system, rows.setting))[INDEX].combine_chunks()


def fewer_images(
    table: pa.Table,
    subset: Subset,
    summary: Mapping[Curve, SummaryRow],
    distances: Mapping[CurveImages, CurveDistances],
) -> FewerImages:
    """Return the rows of a subset from the summary, and compute those beside them over the same images."""
    has = _images_of(table, curve_rows(subset.curves[0], rows_on(table, subset.curves[0])))
    beside = []
    for curve in subset.beside:
        rows = rows_on(table, curve)
        over = curve_rows(curve, rows.filter(pc.is_in(rows[INDEX], has)))
        row = summary_row(over, distances[subset.shared(curve)])
        beside.append(replace(row, trained_on=summary[curve].trained_on))
    return FewerImages(subset.lacking, tuple(summary[curve] for curve in subset.curves), tuple(beside))
