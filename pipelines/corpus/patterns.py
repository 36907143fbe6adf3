"""Patterns of file names: braces, as shells and WebDataset expand them, ``*`` for any characters but a slash, and
``**`` as a whole name for any number of folders."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hfd.errors import ConfigError

MAX_NAMES = 1_000_000
ANY_DEPTH = "**"
_FOLDERS = "(?:[^/]+/)*"
_STEP = r"(?:\.\.(-?\d+))?"
_RANGE = re.compile(rf"(-?\d+)\.\.(-?\d+){_STEP}")
_LETTERS = re.compile(rf"(?:([a-z])\.\.([a-z])|([A-Z])\.\.([A-Z])){_STEP}")


def has_pattern(text: str) -> bool:
    """Return True for a text with ``*`` or a pair of braces that holds a range or a comma."""
    return "*" in text or next(_braces(text), None) is not None


def expand(pattern: str) -> list[str]:
    """Expand ``{000..999}``, ``{0..90..10}``, ``{a..f}`` and ``{a,b}`` as a shell; numbers keep their leading zeros.

    Braces may hold braces. Braces with neither a range nor a comma stay as they are.

    Raises:
        ConfigError: more than `MAX_NAMES` names.
    """
    if _count(pattern) > MAX_NAMES:
        raise ConfigError(f"{pattern}: got a pattern of more than {MAX_NAMES} names, expected fewer. Use *")
    return list(_expanded(pattern))


def _expanded(pattern: str) -> Iterator[str]:
    found = next(_braces(pattern), None)
    if found is None:
        yield pattern
        return
    head, tail = pattern[: found.start], pattern[found.stop :]
    middles = [text for choice in _choices(found) for text in _expanded(choice)]
    for middle, rest in itertools.product(middles, list(_expanded(tail))):
        yield head + middle + rest


def _count(pattern: str) -> int:
    """Return the number of names without making them."""
    found = next(_braces(pattern), None)
    if found is None:
        return 1
    span = _span(found.inside)
    own = 1 + (span[-1] - span[0]) // span.step if span is not None else sum(map(_count, found.parts))
    return own * _count(pattern[found.stop :])


@dataclass(frozen=True)
class _Braces:
    """A pair of braces at [start, stop), and the ``parts`` between its commas."""

    start: int
    stop: int
    parts: tuple[str, ...]

    @property
    def inside(self) -> str:
        return ",".join(self.parts)


def _braces(text: str) -> Iterator[_Braces]:
    """Yield the pairs of braces that hold a range or a comma, outermost first."""
    for start in (index for index, character in enumerate(text) if character == "{"):
        depth, parts, begin = 0, [], start + 1
        for index in range(start, len(text)):
            character = text[index]
            depth += (character == "{") - (character == "}")
            if (character == "," and depth == 1) or depth == 0:
                parts.append(text[begin:index])
                begin = index + 1
            if depth == 0:
                found = _Braces(start, index + 1, tuple(parts))
                if len(parts) > 1 or _span(found.inside) is not None:
                    yield found
                break


def _choices(found: _Braces) -> Iterator[str]:
    span = _span(found.inside)
    if span is None:
        yield from found.parts
    elif (numbers := _RANGE.fullmatch(found.inside)) is None:
        yield from map(chr, span)
    else:
        ends = numbers.group(1, 2)
        width = max(map(len, ends)) if any(re.match(r"-?0\d", text) for text in ends) else 0
        for number in span:
            yield f"{number:0{width}d}" if width else str(number)


def _span(inside: str) -> range | None:
    """Return the numbers, or the codes of the letters, of a range between braces; None for anything else."""
    if (found := _RANGE.fullmatch(inside)) is not None:
        first, last = int(found[1]), int(found[2])
    elif (found := _LETTERS.fullmatch(inside)) is not None:
        first, last = (ord(text) for text in found.groups()[:4] if text)
    else:
        return None
    step = abs(int(found[found.re.groups] or 1)) or 1
    return range(first, last + 1, step) if first <= last else range(first, last - 1, -step)


@dataclass(frozen=True)
class NameSet:
    """The names that a pattern matches. ``exact``: those that it states; ``globs``: one expression for the others."""

    exact: frozenset[str]
    globs: re.Pattern[str] | None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.exact or bool(self.globs and self.globs.fullmatch(name)))


def name_set(pattern: str) -> NameSet:
    """Return the names that a pattern matches. Raises :class:`ConfigError` as :func:`expand`."""
    names = expand(pattern)
    globs = [_expression(name) for name in names if "*" in name]
    exact = frozenset(name for name in names if "*" not in name)
    return NameSet(exact, re.compile("|".join(globs), re.DOTALL) if globs else None)


def _expression(name: str) -> str:
    *folders, last = name.split("/")
    above = "".join(_FOLDERS if part == ANY_DEPTH else f"{_one_name(part)}/" for part in folders)
    return above + (f"{_FOLDERS}[^/]+" if last == ANY_DEPTH else _one_name(last))


def _one_name(part: str) -> str:
    return re.escape(part).replace(r"\*", "[^/]*")


@dataclass(frozen=True)
class Ignored:
    """Names to leave out. ``own``: of files and folders at any depth; ``whole``: from the source on. Picklable."""

    own: NameSet
    whole: NameSet

    def __call__(self, key: str) -> bool:
        parts = key.split("/")
        if any(part in self.own for part in parts):
            return True
        return any("/".join(parts[:count]) in self.whole for count in range(1, len(parts) + 1))


def ignored(patterns: Sequence[str]) -> Ignored | None:
    """Return what patterns leave out; None for no pattern. A file lies below a folder that is left out.

    A pattern with a slash at its start or inside is a whole name; any other is the own name of a file or folder.

    Raises:
        ConfigError: as :func:`expand`.
    """
    if not patterns:
        return None
    own = [pattern.rstrip("/") for pattern in patterns if "/" not in pattern.rstrip("/")]
    whole = [pattern.strip("/") for pattern in patterns if "/" in pattern.rstrip("/")]
    return Ignored(_union(own), _union(whole))


def _union(patterns: Sequence[str]) -> NameSet:
    sets = [name_set(pattern) for pattern in patterns]
    globs = "|".join(found.globs.pattern for found in sets if found.globs is not None)
    return NameSet(
        frozenset[str]().union(*(found.exact for found in sets)), re.compile(globs, re.DOTALL) if globs else None
    )


def split_pattern(uri: str) -> tuple[str, str]:
    """Divide a URI with a pattern into the folder above the first part that has one, and the rest."""
    parts = uri.split("/")
    # A brace may span a slash: cut in front of the first part with a mark, not behind a whole pair.
    first = next(index for index, part in enumerate(parts) if "*" in part or "{" in part)
    return "/".join(parts[:first]) or ("/" if uri.startswith("/") else "."), "/".join(parts[first:])


def literal_start(pattern: str) -> str:
    """Return the characters in front of the first mark of a pattern."""
    return re.split(r"[*{]", pattern, maxsplit=1)[0]
