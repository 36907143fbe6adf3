"""Tests and benchmarks use public names of hfd and pipelines only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

PRODUCT = [path for room in ("hfd", "pipelines") for path in (ROOT / room).rglob("*.py")]
USERS = sorted(path for room in ("tests", "benchmarks") for path in (ROOT / room).rglob("*.py"))
OF_OTHERS = {("test_model.py", "_likelihood"), ("test_private_names.py", "_likelihood")}
"""Private names of ours that another library has too: CompressAI, whose likelihood has no public form."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined_in(source: str) -> set[str]:
    """Private names of functions, classes, variables, attributes and modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.alias(asname=str(name)):
                found.add(name)
    return {name for name in found if is_private(name)}


def used_in(source: str) -> Iterator[tuple[int, str]]:
    """Private names with their lines: attributes, imports, and strings that are a name or end a dotted one."""
    tree = ast.parse(source)
    in_f_strings = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in in_f_strings:
            continue
        match node:
            case ast.Attribute(attr=name, lineno=line):
                yield line, name
            case ast.ImportFrom(names=names, lineno=line):
                yield from ((line, one.name) for one in names)
            case ast.Constant(value=str(text), lineno=line) if all(part.isidentifier() for part in text.split(".")):
                yield line, text.split(".")[-1]


def reaches(source: str, private: set[str]) -> list[tuple[int, str]]:
    if private.isdisjoint(re.findall(r"\w+", source)):  # most files: parsing them all takes seconds
        return []
    foreign = private - defined_in(source)
    return [(line, name) for line, name in used_in(source) if name in foreign]


def test_only_public_names_are_used() -> None:
    private = {name for path in PRODUCT for name in defined_in(path.read_text("utf-8"))}
    assert len(private) > 200
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in USERS
        for line, name in reaches(path.read_text("utf-8"), private)
        if (path.name, name) not in OF_OTHERS
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "from hfd.x import _secret",
        "x._secret = 3",
        "monkeypatch.setattr(x, '_secret', 1)",
        "monkeypatch.setattr('hfd.x._secret', 1)",
        "print(x.y._secret())",
    ],
)
def test_a_private_name_is_seen(source: str) -> None:
    assert [name for _, name in reaches(source, {"_secret"})] == ["_secret"]


@pytest.mark.parametrize(
    "source", ["def _secret(): ...\nx._secret", "import os\nos._exit(1)", "'a _secret'", "f'{x}_secret'", "x.secret"]
)
def test_other_names_pass(source: str) -> None:
    assert reaches(source, {"_secret"}) == []


def test_names_are_found_where_they_are_defined() -> None:
    source = "_A = 1\nclass _B:\n    def _c(self):\n        self._d = _e = 2\n        self.f = __name__\n"
    assert defined_in(source) == {"_A", "_B", "_c", "_d", "_e"}
