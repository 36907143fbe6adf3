"""A finished evaluation as its folder, or its tracking run, holds it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from hfd.metrics.table import image_metrics
from hfd.report.content import IMAGE_FIELDS, PublishedPoint, SummaryRow
from hfd.report.summarise import Curve
from pipelines.evaluate import SPEC
from pipelines.evaluate.report import SETTINGS_FILE
from pipelines.evaluate.rows import rows_on
from pipelines.runs.step import FORMAT

IMAGES, MANIFEST = "images.parquet", "manifest.json"


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished evaluation.

    ``name``: unique in a comparison; ``label``: before our systems' names, may be shared by evaluations that are points
    of one curve. ``place``: of its files. ``settings``: of the step; ``config``: all settings as YAML, empty if they
    were not kept. ``folder``: None where only the artifacts of a tracking run are reachable.
    """

    name: str
    label: str
    place: str
    key: str
    facts: Mapping[str, Any]
    settings: Mapping[str, str]
    inputs: Mapping[str, str]
    finished: str
    table: pa.Table
    config: str = ""
    folder: Folder | None = None

    @cached_property
    def summary(self) -> dict[Curve, SummaryRow]:
        """The rows that the evaluation itself reported, those of gaps included."""
        rows = [SummaryRow.from_record(record) for record in self.facts["summary"]]
        return {(row.system, row.setting): row for row in rows}

    @property
    def published(self) -> list[PublishedPoint]:
        return [PublishedPoint(**record) for record in self.facts.get("published", ())]

    @cached_property
    def curves(self) -> list[Curve]:
        """The measured curves, in the order of their first rows."""
        groups = self.table.group_by(["system", "setting"], use_threads=False).aggregate([]).to_pylist()
        return [(group["system"], group["setting"]) for group in groups]

    def values_of(self, image: str, system: str, setting: str) -> Mapping[str, Any]:
        """Return the row of one picture."""
        rows = rows_on(self.table, (system, setting))
        found: list[dict[str, Any]] = rows.filter(pc.equal(rows["image"], image)).to_pylist()
        return found[0]

    def named(self, name: str, label: str) -> Finished:
        return replace(self, name=name, label=label)


def read_finished(folder: Folder) -> Finished:
    """Read an evaluation from its step's folder. Raises :class:`hfd.errors.HfdError` with one line."""
    record = _record(folder)
    if record.get("step") != SPEC.name:
        raise ConfigError(
            f"{folder.uri}: got the output of {record.get('step')!r}, expected a finished evaluation. "
            "Give a workspace, or a folder of its evaluate/"
        )
    if record.get("format") != FORMAT:
        raise ConfigError(
            f"{folder.uri}: got an evaluation of format {record.get('format')!r}, expected {FORMAT}. "
            "Run hfd evaluate again with this version"
        )
    try:
        config = folder.read(SETTINGS_FILE).decode()
    except DataError as error:
        if error.reason != "missing":
            raise
        config = ""
    try:
        finished = Finished(
            "", "", folder.uri, record["key"], record["facts"],
            {name: json.dumps(value) for name, value in record["settings"].items()}, record["inputs"],
            str(record.get("finished", "")), read_table(folder.read(IMAGES), f"{folder.uri}/{IMAGES}"), config, folder,
        )  # fmt: skip
        _ = finished.summary  # parsed here, so that a record of another form is named
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder.uri}/{MANIFEST}: got a record without {error}, expected an evaluation's") from error
    return finished


def _record(folder: Folder) -> dict[str, Any]:
    try:
        record = json.loads(folder.read(MANIFEST))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ConfigError(f"{folder.uri}/{MANIFEST}: not readable, expected the record of a step. Run it again")
    return record


def read_table(data: bytes, place: str) -> pa.Table:
    """Read ``images.parquet``. Raises :class:`ConfigError` for other contents."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"{place}: not readable ({first}), expected the table of an evaluation") from error
    missing = {*IMAGE_FIELDS, *(metric.name for metric in image_metrics())} - set(table.column_names)
    if missing:
        raise ConfigError(
            f"{place}: got no columns {', '.join(sorted(missing))}, expected the table of an evaluation. "
            "Run hfd evaluate again with this version"
        )
    return table
