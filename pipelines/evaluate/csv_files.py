"""CSV files with a line of headings, local or on S3."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from hfd.errors import DataError
from hfd.io.storage import Folder

MAX_CSV_BYTES = 1 << 26


@dataclass(frozen=True)
class CsvTable:
    """``headings`` in lower case; ``rows``: (line, cells) of each line that is not empty."""

    headings: list[str]
    rows: list[tuple[int, list[str]]]

    def cell(self, row: list[str], heading: str) -> str:
        """Return a cell without spaces around it; empty where the line is short."""
        place = self.headings.index(heading)
        return row[place].strip() if place < len(row) else ""


def is_csv(place: str) -> bool:
    return place.partition("?")[0].lower().endswith(".csv")


def read_csv(place: str) -> bytes:
    """Return the bytes of a file by path or URI. Raises :class:`DataError`."""
    base, mark, query = place.partition("?")
    home, _, name = base.rpartition("/")
    with Folder(f"{home or '.'}{mark}{query}").open_input(name) as stream:
        data: bytes = stream.read(MAX_CSV_BYTES + 1)
    if len(data) > MAX_CSV_BYTES:
        raise DataError(f"{place}: got more than {MAX_CSV_BYTES} bytes, expected a table", reason="bad-csv")
    return data


def parse_csv(data: bytes, place: str) -> CsvTable:
    """Parse UTF-8 text. Raises :class:`DataError`."""
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{place}: not readable as CSV ({error}), expected UTF-8 text", reason="bad-csv") from error
    headings = [heading.strip().lower() for heading in lines[0]] if lines else []
    return CsvTable(headings, [(number, line) for number, line in enumerate(lines[1:], 2) if line])
