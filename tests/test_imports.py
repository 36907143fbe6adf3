"""Imports point one way, and the heavy engines have one home each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "hfd").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])

GROUND = {"config", "errors", "storage", "weights", "precision", "colour", "pillow_warnings", "terminal"}
"""What every room stands on. These stand on nothing but each other."""

ROOMS = [
    "images", "data", "perceptual", "autoencoder", "diffusion", "tiling", "codec", "metrics", "baselines", "report",
]  # fmt: skip
"""From the lowest up: a room imports those before it, and never one after it."""

DOORS = {
    "training": {"data", "perceptual", "autoencoder", "diffusion"},
    "presets": set(),
    "model_sizes": {"autoencoder", "diffusion"},
    "api": {"codec", "diffusion"},
    "pillow_plugin": {"api", "codec"},
    "batch": set(),
    "file_info": {"codec"},
    "commands": {"batch", "codec", "diffusion", "file_info", "images"},
    "cli_codec": {"batch", "codec", "commands", "tiling"},
    "cli": {"presets", "model_sizes", "cli_codec"},
    "__main__": {"cli"},
}
"""What stands beside the order, and what it may import besides the ground."""

READS_CONFIG = {"config", "presets", "model_sizes", "cli"}
"""Mathematics takes numbers and tensors, never a configuration."""

ENGINES = {
    "ray": {"pipelines.on_ray", "pipelines.actor_pool", "pipelines.jobs", "pipelines.patches_on_ray"},
    "mlflow": {"pipelines.tracking"},
    "boto3": {"pipelines.cell", "pipelines.s3_objects"},
    "botocore": {"pipelines.cell", "pipelines.s3_direct", "pipelines.s3_objects"},
}
"""The modules and packages that may import each engine."""


@dataclass(frozen=True)
class Import:
    """``module`` imports ``target`` (as far as it can be told, a module's dotted name); ``lazy``: in a function."""

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
                assert child.level == 0, f"{module}: a relative import hides where it points"
                for name in child.names:
                    yield Import(module, f"{child.module}.{name.name}", lazy, typing_only)
            else:
                inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                guarded = typing_only or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
                yield from walk(child, inside, guarded)

    yield from walk(ast.parse(source), False, False)


def _all_imports() -> list[Import]:
    return [found for path in FILES for found in _imports(path.read_text(encoding="utf-8"), _module_of(path))]


def _room(dotted: str) -> str | None:
    """The room of a name below hfd; None elsewhere and for the package itself (its version)."""
    parts = dotted.split(".")
    rooms = GROUND | set(ROOMS) | DOORS.keys()
    return parts[1] if len(parts) > 1 and parts[0] == "hfd" and parts[1] in rooms else None


def _allowed(room: str) -> set[str]:
    if room in GROUND:
        return GROUND
    if room in ROOMS:
        return GROUND | set(ROOMS[: ROOMS.index(room) + 1])
    return GROUND | DOORS[room] | {room}


def _breaches(imports: list[Import]) -> list[str]:
    found = []
    for one in imports:
        room, target = _room(one.module), _room(one.target)
        if room is not None and target is not None and target not in _allowed(room):
            found.append(f"{one.module} imports {one.target}")
        if target == "config" and room is not None and room not in READS_CONFIG:
            found.append(f"{one.module} reads a configuration")
        top = one.target.split(".")[0]
        if top == "pipelines" and one.module.startswith("hfd") and not (one.module == "hfd.cli" and one.lazy):
            found.append(f"{one.module} imports {one.target}")
        if top in ENGINES and not any(f"{one.module}.".startswith(f"{home}.") for home in ENGINES[top]):
            found.append(f"{one.module} imports {one.target}")
    return found


def test_every_module_has_a_room() -> None:
    modules = {_module_of(path) for path in FILES}
    assert {module for module in modules if module.startswith("hfd.") and _room(module) is None} == set()
    assert len(modules) > 50


def test_imports_point_one_way() -> None:
    assert _breaches(_all_imports()) == []


def test_engines_are_imported_only_when_they_are_used() -> None:
    """MLflow costs a second and Ray half of one: a step that needs neither does not wait for them."""
    eager = [one for one in _all_imports() if one.target.split(".")[0] in ENGINES and not one.lazy]
    assert [one for one in eager if not one.typing_only] == []


def test_the_command_line_is_light_at_the_top() -> None:
    top = {
        one.target.split(".")[0]
        for one in _all_imports()
        if one.module in ("hfd", "hfd.cli", "hfd.cli_codec", "hfd.errors", "hfd.__main__")
        and not (one.lazy or one.typing_only)
    }
    assert top - sys.stdlib_module_names == {"typer", "hfd"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hfd.images", "from hfd.data.crops import Split"),
        ("hfd.autoencoder.model", "def f():\n    from hfd.diffusion import unet"),
        ("hfd.metrics.frechet", "import hfd.report.page"),
        ("hfd.data.loader", "from hfd import autoencoder"),
        ("hfd.training.loop", "from hfd.codec.codec import Codec"),
        ("hfd.storage", "from hfd.images import load_rgb"),
        ("hfd.diffusion.schedule", "from hfd.config import DecoderConfig"),
        ("hfd.codec.codec", "def f():\n    import ray.data"),
        ("hfd.storage", "import boto3"),
        ("hfd.storage", "if TYPE_CHECKING:\n    from mlflow import MlflowClient"),
        ("hfd.commands", "def f():\n    from pipelines.retrain import plan"),
        ("hfd.cli", "from pipelines.retrain import plan"),
        ("pipelines.steps", "def f():\n    import ray"),
        ("pipelines.on_ray", "import mlflow"),
    ],
)
def test_a_wrong_import_would_be_seen(module: str, source: str) -> None:
    assert len(_breaches(list(_imports(source, module)))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hfd.cli", "def f():\n    from pipelines.retrain import plan"),
        ("hfd.report.page", "from hfd.images import encode_webp_lossless"),
        ("hfd.training.tasks", "from hfd.diffusion.unet import UNet"),
        ("pipelines.on_ray", "def f():\n    import ray.data"),
        ("pipelines.evaluate", "from hfd.report.summarise import summarise\nfrom hfd.config import Config"),
        ("hfd.codec.codec", "import rayleigh"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert _breaches(list(_imports(source, module))) == []
