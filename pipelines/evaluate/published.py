"""Published results from a CSV file, which a report draws beside its own with their protocol."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hfd.errors import DataError
from hfd.metrics.table import METRICS, set_metrics
from hfd.report.content import PublishedPoint
from pipelines.evaluate.csv_files import CsvTable, is_csv, parse_csv, read_csv

SETTING = "evaluate.curves"
MAX_LINES = 5
"""Lines of the file that a sentence names."""


@dataclass(frozen=True)
class Published:
    """``notes``: a sentence for each thing that was left out; ``digest``: of the file, empty without one."""

    points: tuple[PublishedPoint, ...] = ()
    notes: tuple[str, ...] = ()
    digest: str = ""


def list_published(place: str | None) -> Published:
    """Read the file. One that cannot be used is a note and not an error, unless a server fails."""
    if place is None:
        return Published()
    try:
        if not is_csv(place):
            raise DataError(f"{place}: got another suffix, expected a .csv file. Rename it", reason="bad-csv")
        data = read_csv(place)
        points, notes = _points_of(parse_csv(data, place), place)
    except DataError as error:
        if error.is_outage:
            raise
        return Published(
            notes=(f"{SETTING}: {error}; no published curve is drawn",), digest=_digest(str(error).encode())
        )
    return Published(tuple(points), tuple(notes), _digest(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _points_of(table: CsvTable, place: str) -> tuple[list[PublishedPoint], list[str]]:
    missing = [name for name in ("system", "bpp", "protocol") if name not in table.headings]
    columns = {heading: name for heading in table.headings if (name := _metric_of(heading)) is not None}
    if missing or not columns:
        wanted = f"the columns {', '.join(missing)}" if missing else "a column of a metric, such as psnr"
        raise DataError(
            f"{place}: got the headings {table.headings}, expected {wanted}. Add what is missing", reason="bad-csv"
        )
    known = {"system", "bpp", "protocol", *columns}
    foreign = [heading for heading in table.headings if heading and heading not in known]
    faults: dict[str, list[int]] = defaultdict(list)
    points = []
    for number, row in table.rows:
        found = _point(table, row, columns)
        if isinstance(found, str):
            faults[found].append(number)
        else:
            points.append(found)
    notes = [f"{SETTING}: no metric here has the name of column {', '.join(foreign)}: left out"] if foreign else []
    notes += [f"{SETTING}: {place}: {_lines(numbers)} {fault}: left out" for fault, numbers in faults.items()]
    return points, notes


def _point(table: CsvTable, row: list[str], columns: dict[str, str]) -> PublishedPoint | str:
    """Return the point of a line, or what is wrong with it."""
    system, protocol = table.cell(row, "system"), table.cell(row, "protocol")
    if not protocol:
        return "without a protocol"
    if not system:
        return "without a system"
    try:
        bpp = float(table.cell(row, "bpp"))
        values = {name: float(text) for heading, name in columns.items() if (text := table.cell(row, heading))}
    except ValueError:
        return "with text in place of a number"
    if not 0.0 < bpp < math.inf or not values or not all(map(math.isfinite, values.values())):
        return "without a rate above 0 and a finite value"
    return PublishedPoint(system, protocol, bpp, values)


def _metric_of(heading: str) -> str | None:
    """Return the metric that a heading names: ``PSNR dB``, ``ms-ssim``, ``lpips``."""
    for metric in set_metrics(METRICS):
        if metric.better is not None and heading in (metric.name, metric.label.lower(), metric.heading.lower()):
            return metric.name
    return None


def _lines(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - MAX_LINES} more" if len(numbers) > MAX_LINES else ""
    named = ", ".join(map(str, numbers[:MAX_LINES])) + more
    return f"line {named}" if len(numbers) == 1 else f"lines {named}"
