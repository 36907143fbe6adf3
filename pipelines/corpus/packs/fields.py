"""Fields of a picture, from side files, columns or lists: their conditions, and their text in the photo table."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Scalar: TypeAlias = bool | int | float | str
Condition: TypeAlias = tuple[str, str, Scalar | tuple[Scalar, ...]]
"""Field, operator, value: ``("licence", "in", ("cc0", "cc-by"))``."""

Fields: TypeAlias = tuple[tuple[str, object], ...]
"""Names and values that a source states of a picture beside its bytes: plain values of JSON. Picklable."""

MAX_SHOWN = 60
"""Characters of a value in a message."""

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def satisfies(fields: Fields, conditions: Sequence[Condition]) -> bool:
    """Return True if every condition holds. None holds of a missing or null field, or of one of another type.

    A text is compared with a number by its value: the fields of CSV and text files are texts.
    """
    return unmet(fields, conditions) is None


def unmet(fields: Fields, conditions: Sequence[Condition]) -> str | None:
    """Return what the first condition that does not hold got and expects; None: all hold."""
    values = dict(fields)
    for name, mark, expected in conditions:
        value = values.get(name)
        if not _holds(value, mark, expected):
            got = f"no {name}" if value is None else f"{name} {text_of(value)[:MAX_SHOWN]!r}"
            return f"got {got}, expected {mark} {expected!r}"
    return None


def _holds(value: object, mark: str, expected: object) -> bool:
    if value is None:
        return False
    if mark in ("in", "not in"):
        assert isinstance(expected, tuple)
        return any(_equal(_like(value, one), one) for one in expected) == (mark == "in")
    value = _like(value, expected)
    if mark in ("==", "!="):
        return _equal(value, expected) == (mark == "==")
    comparable = (_is_number(value) and _is_number(expected)) or (isinstance(value, str) and isinstance(expected, str))
    return comparable and _ORDERS[mark](value, expected)


def _like(value: object, expected: object) -> object:
    """Return a text as a number if the other value is one and the text states one."""
    if not isinstance(value, str) or not _is_number(expected):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _equal(a: object, b: object) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)  # 1 is not True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def chosen_fields(stated: Mapping[str, object], names: Sequence[str]) -> Fields:
    """Return the fields with these names, in their order."""
    return tuple((name, stated[name]) for name in names if stated.get(name) is not None)


def text_of(value: object) -> str:
    """Return the text of a field: a string as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
