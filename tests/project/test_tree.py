"""The tree: short files, few loose ones, each room with its purpose; each benchmark prints ``--help``."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = [ROOT / "hfd", ROOT / "pipelines"]
MAX_LINES = 300
MAX_LOOSE = 8
BENCHMARKS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)


def long_files(folder: Path) -> dict[str, int]:
    """Return the lines of each Python file of a folder that has more than MAX_LINES."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py")}
    return {path.relative_to(folder).as_posix(): count for path, count in lines.items() if count > MAX_LINES}


def rooms_without_purpose(folder: Path) -> list[str]:
    """Return the folders of Python files whose ``__init__`` does not begin with one line that is a sentence."""
    rooms = sorted({path.parent for path in folder.rglob("*.py")})
    return [room.relative_to(folder).as_posix() for room in rooms if not _purpose(room / "__init__.py")]


def _purpose(init: Path) -> bool:
    text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) if init.is_file() else None
    first, _, rest = (text or "").partition("\n")
    return first.endswith(".") and (not rest or rest.startswith("\n"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_file_is_long(package: Path) -> None:
    assert long_files(package) == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_few_files_are_loose(package: Path) -> None:
    assert len(list(package.glob("*.py"))) <= MAX_LOOSE


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_each_room_states_its_purpose_in_one_line(package: Path) -> None:
    assert rooms_without_purpose(package) == []


def test_long_files_and_rooms_without_purpose_would_be_seen(tmp_path: Path) -> None:
    inits = {
        ".": '"""A room."""',
        "silent": "",
        "split": '"""Goes on\nin the next line."""',
        "good": '"""A room.\n\nMore."""',
    }
    for room, text in inits.items():
        (tmp_path / room).mkdir(exist_ok=True)
        (tmp_path / room / "__init__.py").write_text(text)
    (tmp_path / "open").mkdir()
    (tmp_path / "open/module.py").write_text("\n" * MAX_LINES)
    (tmp_path / "good/long.py").write_text("\n" * (MAX_LINES + 1))
    assert long_files(tmp_path) == {"good/long.py": MAX_LINES + 1}
    assert rooms_without_purpose(tmp_path) == ["open", "silent", "split"]


@pytest.mark.integration
@pytest.mark.parametrize("module", BENCHMARKS)
def test_a_benchmark_prints_its_options(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(module, run_name="__main__")
    assert stop.value.code == 0
    assert "--help" in capsys.readouterr().out
