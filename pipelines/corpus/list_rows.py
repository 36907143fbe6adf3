"""The rows of a list: JSON lines, or values with a header, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from hfd.errors import DataError
from hfd.image.tree import suffix_of

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
LIST_SUFFIXES = frozenset({".jsonl", ".ndjson"}) | TABLE_SUFFIXES
URI_NAMES = ("uri", "url", "path", "file_name")
"""Names of the column of URIs, in upper or lower case; the first that a row has counts."""

SEPARATORS = ",;\t"
"""Spreadsheets write semicolons in many countries, and tabs."""


@dataclass(frozen=True)
class Row:
    """One entry of a list: the number of its line, from 1, its URI, and all its fields."""

    line: int
    uri: str
    fields: dict[str, object]


def read_rows(file: BinaryIO, name: str) -> Iterator[Row]:
    """Yield the rows of a list. ``name``: of its file; the suffix is that of its form.

    Raises:
        DataError: one line with the number of the line; ``reason`` is ``bad-list``.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    is_table = suffix_of(name) in TABLE_SUFFIXES
    for line, fields in _table(text, name) if is_table else _json_lines(text, name):
        uri = next((fields[own] for own in _uri_names(fields) if fields[own]), None)
        if not isinstance(uri, str):
            raise _bad(name, line, f"without a URI ({', '.join(fields)})", f"one of {', '.join(URI_NAMES)}")
        yield Row(line, uri, fields)


def _uri_names(fields: dict[str, object]) -> list[str]:
    known = {own.casefold(): own for own in fields}
    return [known[name] for name in URI_NAMES if name in known]


def _table(text: io.TextIOWrapper, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    line = 0
    try:
        first = text.readline()
        separator = _separator(first, "\t" if suffix_of(name) == ".tsv" else ",")
        header = next(iter(csv.reader([first], delimiter=separator, strict=True)), [])
        names = [column.strip() for column in header]
        line = 1
        reader = csv.reader(text, delimiter=separator, strict=True)
        for values in reader:
            start, line = line + 1, reader.line_num + 1
            if len(values) > len(names):
                raise _bad(name, start, f"of {len(values)} values", f"at most {len(names)} as in its header")
            if values:
                yield start, dict(zip(names, values, strict=False))
    except (csv.Error, UnicodeDecodeError) as error:
        raise _unreadable(name, line + 1, error, "a header and values") from error


def _separator(header: str, usual: str) -> str:
    """Return the separator by which a header has a column of URIs; the usual one if none does."""
    for separator in SEPARATORS:
        if any(part.strip(' \r\n"').casefold() in URI_NAMES for part in header.split(separator)):
            return separator
    return usual


def _json_lines(text: io.TextIOWrapper, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    number = 0
    try:
        for number, line in enumerate(text, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"a {type(row).__name__}")
                yield number, row
    except UnicodeDecodeError as error:
        raise _unreadable(name, number + 1, error, "a JSON object") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, number, error, "a JSON object") from error


def _unreadable(name: str, line: int, error: Exception, expected: str) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"{name}: got a list that is not UTF-8, expected UTF-8. Save it as that", reason="bad-list")
    return _bad(name, line, f"that cannot be read ({' '.join(str(error).split())[:80]})", expected)


def _bad(name: str, line: int, got: str, expected: str) -> DataError:
    return DataError(f"{name}: got line {line} {got}, expected {expected}. Correct the list", reason="bad-list")
