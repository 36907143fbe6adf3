"""The order of rooms: imports point down, no module imports itself through others, heavy engines have one home each."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FILES = sorted([*(ROOT / "hfd").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])

ORDER: Sequence[set[str]] = [
    {"hfd.arrays", "hfd.errors", "hfd.kinds", "hfd.precision"},
    {"hfd.io"},
    {"hfd.image"},
    {"hfd.config", "hfd.geometry"},
    {"hfd.perceptual", "hfd.engine"},
    {"hfd.data", "hfd.autoencoder", "hfd.baselines"},
    {"hfd.diffusion"},
    {"hfd.graphs"},
    {"hfd.codec", "hfd.training", "hfd.metrics"},
    {"hfd.api", "hfd.report"},
    {"hfd", "hfd.pillow_plugin", "hfd.cli"},
    {"pipelines", "pipelines.engine", "pipelines.corpus"},
    {"pipelines.tracking"},
    {"pipelines.runs", "pipelines.jobs"},
    {"pipelines.registry", "pipelines.context"},
    {"pipelines.spec"},
    {"pipelines.prepare", "pipelines.train", "pipelines.evaluate"},
    {"pipelines.promote", "pipelines.compare"},
    {"pipelines.workflow", "pipelines.extras"},
    {"pipelines.retrain", "pipelines.retention"},
    {"pipelines.cli"},
    {"hfd.__main__"},
]
"""From the lowest up. A room imports rooms of the sets before its own, and nothing of its own set or of later ones.

``hfd.__main__`` is ``python -m hfd``, the whole command; nothing imports it.
"""

LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
MAX_LOOSE_FILES = 8

ENGINES = {
    "ray": {"pipelines.engine", "pipelines.jobs"},
    "mlflow": {"pipelines.tracking", "pipelines.registry"},
    "boto3": {"pipelines.runs.compare_and_swap", "pipelines.corpus"},
    "botocore": {"pipelines.runs.compare_and_swap", "pipelines.corpus"},
}
"""The modules and rooms that may import each engine."""


@dataclass(frozen=True)
class Import:
    """``module`` imports ``target``: a module, or a name in one. ``lazy``: in a function."""

    module: str
    target: str
    lazy: bool
    typing_only: bool


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(source: str, module: str) -> Iterator[Import]:
    def walk(node: ast.AST, lazy: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(module, name.name, lazy, typing_only)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: write absolute imports"
                for name in child.names:
                    yield Import(module, f"{child.module}.{name.name}", lazy, typing_only)
            else:
                inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                guarded = typing_only or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
                yield from walk(child, inside, guarded)

    yield from walk(ast.parse(source), False, False)


@functools.cache
def _all_imports() -> list[Import]:
    return [found for path in FILES for found in _imports(path.read_text(encoding="utf-8"), _module_of(path))]


def _room(dotted: str) -> str | None:
    """The room of a dotted name of our own, such as ``hfd.io``; a package itself for its plain names; else None."""
    parts = dotted.split(".")
    if parts[0] not in ("hfd", "pipelines"):
        return None
    room = ".".join(parts[:2])
    return room if room in LEVELS else parts[0]


def _breaches(imports: Iterable[Import]) -> list[str]:
    found = []
    for one in imports:
        room, target = _room(one.module), _room(one.target)
        assert room is not None
        top = one.target.split(".")[0]
        wrong = target not in (None, room) and LEVELS[target] >= LEVELS[room]
        # the version, the one plain name that a package itself holds
        if (wrong and one.target != "hfd.__version__" and one.target != "hfd") or (
            top in ENGINES and not any(f"{one.module}.".startswith(f"{home}.") for home in ENGINES[top])
        ):
            found.append(f"{one.module} imports {one.target}")
        if target == "hfd.config" and room.startswith("hfd.") and room != "hfd.config":
            found.append(f"{one.module} reads a configuration: mathematics takes numbers and tensors")
        if target == "hfd.cli" and room.startswith("pipelines.") and room != "pipelines.cli":
            found.append(f"{one.module} imports the command line")
    return found


def _circles(imports: Iterable[Import], modules: set[str]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, directly or through others."""
    edges: dict[str, set[str]] = {module: set() for module in modules}
    for one in imports:
        target = one.target if one.target in modules else one.target.rpartition(".")[0]
        if target in modules and target != one.module:
            edges[one.module].add(target)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in edges[waiting.pop()] - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    after = {module: reached(module) for module in modules}
    return sorted(
        {tuple(sorted(other for other in after[one] if one in after[other])) for one in modules if one in after[one]}
    )


def test_every_module_has_a_room() -> None:
    modules = {_module_of(path) for path in FILES}
    assert {module for module in modules if "." in module and _room(module) in ("hfd", "pipelines")} == set()
    assert len(modules) > 50


def test_the_order_names_no_room_that_is_gone() -> None:
    modules = {_module_of(path) for path in FILES}
    assert set(LEVELS) - modules == set()


def test_imports_point_down() -> None:
    assert _breaches(_all_imports()) == []


def test_no_import_circles() -> None:
    assert _circles(_all_imports(), {_module_of(path) for path in FILES}) == []


def test_a_circle_would_be_seen() -> None:
    imports = [Import("a", "b.f", True, False), Import("b", "c", False, False), Import("c", "a", False, True)]
    assert _circles(imports, {"a", "b", "c", "d"}) == [("a", "b", "c")]


@pytest.mark.parametrize("package", ["hfd", "pipelines"])
def test_few_loose_files(package: str) -> None:
    assert len(list((ROOT / package).glob("*.py"))) <= MAX_LOOSE_FILES


@pytest.mark.parametrize("package", ["hfd", "pipelines"])
def test_every_room_states_its_purpose(package: str) -> None:
    for path in (ROOT / package).glob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_engines_are_imported_only_when_they_are_used() -> None:
    """MLflow costs a second and Ray half of one, and neither need be installed."""
    eager = [one for one in _all_imports() if one.target.split(".")[0] in ENGINES and not one.lazy]
    assert [one for one in eager if not one.typing_only] == []


def test_the_command_line_is_light_at_the_top() -> None:
    light = {
        "hfd", "hfd.cli", "hfd.cli.main", "hfd.cli.compress",
        "hfd.cli.decompress", "hfd.cli.export", "hfd.cli.info", "hfd.cli.exit_codes",
        "hfd.cli.options", "hfd.errors", "pipelines", "pipelines.cli", "pipelines.spec",
        "pipelines.workflow", "pipelines.extras", "pipelines.prepare", "pipelines.train",
        "pipelines.evaluate", "pipelines.promote",
    }  # fmt: skip
    eager = [one for one in _all_imports() if one.module in light and not (one.lazy or one.typing_only)]
    assert {one.target.split(".")[0] for one in eager} - sys.stdlib_module_names == {"typer", "hfd", "pipelines"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hfd.image.load", "from hfd.data.crops import Split"),
        ("hfd.autoencoder.model", "def f():\n    from hfd.diffusion import unet"),
        ("hfd.metrics.frechet", "import hfd.report.page"),
        ("hfd.data.loader", "from hfd import autoencoder"),
        ("hfd.training.loop", "from hfd.codec.codec import Codec"),
        ("hfd.io.storage", "from hfd.image.load import load_rgb"),
        ("hfd.diffusion.schedule", "from hfd.config import DecoderConfig"),
        ("hfd.codec.codec", "from hfd import compress"),
        ("hfd.codec.codec", "def f():\n    import ray.data"),
        ("hfd.io.storage", "import boto3"),
        ("hfd.io.storage", "if TYPE_CHECKING:\n    from mlflow import MlflowClient"),
        ("hfd.cli.info", "def f():\n    from pipelines.retrain import plan"),
        ("pipelines.runs.step", "def f():\n    import ray"),
        ("pipelines.engine.ray_tasks", "import mlflow"),
        ("pipelines.runs.step", "from pipelines.jobs.plan import Job"),
        ("pipelines.tracking.link", "from pipelines.runs.step import Step"),
        ("pipelines.train.job", "def f():\n    from pipelines.retrain import plan"),
        ("pipelines.train.job", "from pipelines.prepare import step"),
        ("pipelines.workflow", "if TYPE_CHECKING:\n    from pipelines.cli import app"),
        ("pipelines.evaluate.step", "from hfd.cli.progress import Terminal"),
    ],
)
def test_a_wrong_import_would_be_seen(module: str, source: str) -> None:
    assert len(_breaches(_imports(source, module))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pipelines.cli", "def f():\n    from pipelines.retrain import plan"),
        ("hfd.report.page", "from hfd.image.load import encode_webp_lossless"),
        ("hfd.training.tasks", "from hfd.diffusion.unet import UNet"),
        ("pipelines.engine.ray_tasks", "def f():\n    import ray.data"),
        ("pipelines.evaluate.step", "from hfd.report.summarise import summarise\nfrom hfd.config import Config"),
        ("pipelines.runs.step", "import hfd\nfrom hfd import __version__"),
        ("hfd.codec.codec", "import rayleigh"),
    ],
)
def test_a_right_import_is_accepted(module: str, source: str) -> None:
    assert _breaches(_imports(source, module)) == []
