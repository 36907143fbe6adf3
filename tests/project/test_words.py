"""Docstrings, comments and pages in plain technical English: no literary openings, no known metaphors."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FOLDERS = ("hfd", "pipelines", "benchmarks", "docs", "infra", "tests")
OPENING = re.compile(r"\s*(What|How|Which|Whether|Who|Whose|Why)\b")
TEST_NAME = re.compile(r"test_(what|how|which|whether|who|whose|why)_")
PHRASES = re.compile(
    r"\b(for (the )?(sake|want) of|(is|are|was|were) told (of|as|that|what)|(is|are|was|were) said (of|to be|that)"
    r"|says nothing of|at the hands? of|by the hand of|those who|by halves|goes the way of"
    r"|has no say|whatever becomes of|what becomes of|what is said|what anyone would|without a word)\b",
    re.IGNORECASE,
)


def sources() -> list[Path]:
    return sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, those under assignments included."""
    bodies = [getattr(node, "body", []) for node in ast.walk(tree)]
    for child in (child for body in bodies if isinstance(body, list) for child in body):
        value = child.value if isinstance(child, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield child.lineno, value.value


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each comment and each string that has spaces."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string):
            yield token.start[0], token.string


def openings(source: str) -> list[str]:
    """Return docstrings that begin with a question word, and test names that do, with their lines."""
    tree = ast.parse(source)
    found = [f"{line}: {text.split(chr(10))[0]}" for line, text in docstrings(tree) if OPENING.match(text)]
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return found + [f"{node.lineno}: {node.name}" for node in functions if TEST_NAME.match(node.name)]


def metaphors(source: str) -> list[str]:
    """Return the phrases of comments and strings that plain English replaces, with their lines."""
    words = [(line, " ".join(text.split())) for line, text in prose(source)]
    return [f"{line}: {match.group()}" for line, text in words for match in PHRASES.finditer(text)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_and_test_names_begin_with_a_statement(folder: str) -> None:
    paths = [path for path in sources() if path.is_relative_to(ROOT / folder)]
    assert paths
    assert [f"{path}:{line}" for path in paths for line in openings(path.read_text())] == []


def test_prose_is_free_of_known_metaphors() -> None:
    paths = [path for path in sources() if path != Path(__file__)]
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "conf").rglob("*.yaml")]
    found = [f"{path}:{line}" for path in paths for line in metaphors(path.read_text())]
    texts = [(page, " ".join(page.read_text().split())) for page in pages]
    assert found + [f"{page}: {match.group()}" for page, text in texts for match in PHRASES.finditer(text)] == []


def test_literary_openings_are_detected() -> None:
    source = '"""What it does."""\nX = 1\n"""Whether X."""\ndef test_how_it_ends():\n    """Check the end."""\n'
    assert openings(source) == ["1: What it does.", "3: Whether X.", "4: test_how_it_ends"]
    assert openings('"""Whatever follows what it says."""\ndef test_whole():\n    """Show how."""\n') == []


def test_metaphors_are_detected() -> None:
    assert metaphors('# the loader has no say\nX = "for the sake of speed"\nY = "a person who told us that"\n') == [
        "1: has no say",
        "2: for the sake of",
    ]
