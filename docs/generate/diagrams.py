"""Draw the two diagrams of docs/architecture.md as SVG: the rooms with their imports, the steps with their files.

    python docs/generate/diagrams.py

Rooms, purposes and imports are read from the code; the order of the steps from pipelines.workflow.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from pipelines.spec import MODEL
from pipelines.workflow import STEPS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "architecture"
WIDTH, GAP, LINE, PER_ROW = 172, 10, 14, 3
COLOURS = {"hfd": "#e3f0fb", "pipelines": "#fdeedb", "file": "#eef6e4"}
TITLES = {"pipelines": "pipelines/: steps on Ray or in one process, MLflow", "hfd": "hfd/: the library"}
DIRECTION = "imports point down; pipelines/ imports hfd/"
STYLE = (
    "text{font:11px sans-serif;fill:#222}.name{font-weight:bold;font-size:13px}.edge{fill:none;stroke-width:1.4}"
    ".box{stroke:#556}.file{stroke:#7a9a5a;stroke-dasharray:4 2}"
)
INKS = ["#666666", "#1f77b4", "#d9730d", "#2a8f3c", "#b5338a", "#7d5ab5", "#8a6d3b", "#333333"]
"""A colour for each step's files and their readers."""

FILES = {
    "photographs": ["photographs", "folder or s3://"],
    "prepare": ["crop shards", "rejects.parquet", "photos.parquet, card.html"],
    "train-autoencoder": ["autoencoder/", "weights.safetensors", "config.json"],
    "reconstruct": ["shards of (x, x_hat)"],
    "train-decoder": ["decoder/", "weights.safetensors (EMA)", "config.json"],
    "finetune-decoder": ["decoder/, fine-tuned for", "a few steps (optional)"],
    "evaluate": [".hfd files, images.parquet", "summary, report.html"],
    "promote": ["verdict.txt; registered", "model, alias champion"],
}
"""The files that each step writes."""


@dataclass(frozen=True)
class Room:
    """A package or a loose module: its purpose, the rooms of its own package that it imports, and its level."""

    name: str
    purpose: str
    imports: frozenset[str]


def read_rooms(package: str) -> list[Room]:
    """Return the rooms of ``hfd`` or ``pipelines``, from the source."""
    rooms: dict[str, tuple[str, set[str]]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        inside = path.relative_to(ROOT / package).with_suffix("").parts
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if inside == ("__init__",) or inside == ("__main__",):
            continue
        purpose, imports = rooms.setdefault(inside[0], ("", set()))
        if len(inside) == 1 or inside[1:] == ("__init__",):
            purpose = (ast.get_docstring(tree) or "").partition("\n\n")[0].replace("\n", " ")
        targets = {name for node in ast.walk(tree) for name in _targets(node)}
        imports |= {target.split(".")[1] for target in targets if target.startswith(f"{package}.")}
        rooms[inside[0]] = purpose, imports
    return [
        Room(name, purpose, frozenset(imports & rooms.keys() - {name})) for name, (purpose, imports) in rooms.items()
    ]


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []


def levels(rooms: Sequence[Room]) -> list[list[Room]]:
    """Return the rooms from the top level down; a room imports rooms of lower levels only."""
    level: dict[str, int] = {}
    left = list(rooms)
    while left:
        ready = [room for room in left if room.imports <= level.keys()]
        if not ready:
            ready = left
        top = len(set(level.values()))
        level |= {room.name: top for room in ready}
        left = [room for room in left if room not in ready]
    return [[room for room in rooms if level[room.name] == at] for at in reversed(range(max(level.values()) + 1))]


def rooms_svg() -> str:
    """Return the diagram of rooms: a column for each package, from its top level down to its most imported rooms."""
    parts: list[str] = []
    bottoms = []
    for column, (package, title) in enumerate(TITLES.items()):
        left, y = 10 + column * (PER_ROW * (WIDTH + GAP) + 20), 34
        parts.append(f'<text class="name" x="{left}" y="22">{title}</text>')
        for row in levels(read_rooms(package)):
            for start in range(0, len(row), PER_ROW):
                texts = [_room_text(room) for room in row[start : start + PER_ROW]]
                height = 12 + LINE * max(map(len, texts))
                for at, text in enumerate(texts):
                    parts.append(_box(left + at * (WIDTH + GAP), y, WIDTH, height, text, COLOURS[package], "box"))
                y += height + 6
            y += 10
        bottoms.append(y)
    width = 2 * PER_ROW * (WIDTH + GAP) + 50
    parts.append(_line(f"M{width - 10} 34 V{max(bottoms) - 16}"))
    parts.append(
        f'<text transform="translate({width},40) rotate(90)">imports point down; pipelines/ imports hfd/</text>'
    )
    return _svg(width + 16, max(bottoms), parts)


def _room_text(room: Room) -> list[str]:
    purpose = room.purpose.partition(". ")[0].rstrip(".").replace("`", "")
    imports = f"imports: {', '.join(sorted(room.imports))}" if room.imports else ""
    return [room.name, *textwrap.wrap(purpose, 27)[:4], *textwrap.wrap(imports, 27)]


def read_steps() -> dict[str, tuple[str, ...]]:
    """Return the steps that each step needs, every optional step included."""
    maker = [spec.name for spec in STEPS if spec.makes_model][-1]
    return {spec.name: tuple(maker if name == MODEL else name for name in spec.needs) for spec in STEPS}


def steps_svg(needs: Mapping[str, Sequence[str]]) -> str:
    """Return the diagram of steps: each step at the left, the files that it writes at the right, and their readers."""
    parts: list[str] = []
    bottoms: dict[str, int] = {}
    lanes = {name: 470 + 24 * at for at, name in enumerate(FILES)}
    colours = dict(zip(FILES, INKS, strict=True))
    y = 8
    for name in ("photographs", *needs):
        sources = list(needs.get(name, ())) or ["photographs"] * (name != "photographs")
        y += 14 + 8 * len(sources)
        height = 12 + LINE * max(2, len(FILES[name]))
        middle = y + height // 2
        for at, source in enumerate(sources):
            row, x = y - 8 * (at + 1), 40 + 30 * at
            route = f"M440 {bottoms[source]} H{lanes[source]} V{row} H{x} V{y}"
            parts.append(_line(route, colours[source]))
        if name != "photographs":
            parts.append(_box(10, y, 170, height, [f"hfd {name}"], COLOURS["pipelines"], "box"))
            parts.append(_line(f"M180 {middle} H230", colours[name]))
        parts.append(_box(230, y, 210, height, FILES[name], COLOURS["file"], "file"))
        bottoms[name] = middle
        y += height
    return _svg(max(lanes.values()) + 20, y + 10, parts)


def _box(x: int, y: int, width: int, height: int, text: Sequence[str], fill: str, kind: str) -> str:
    lines = [f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}"/>']
    for at, line in enumerate(text):
        name = ' class="name"' if at == 0 else ""
        lines.append(f'<text{name} x="{x + 8}" y="{y + 16 + at * LINE}">{escape(line)}</text>')
    return "".join(lines)


def _line(route: str, ink: str = "#667") -> str:
    return f'<path class="edge" stroke="{ink}" marker-end="url(#tip)" d="{route}"/>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    tip = (
        '<marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto" '
        'markerUnits="userSpaceOnUse">'
        '<path d="M0 0L8 4L0 8z" fill="context-stroke"/></marker>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f"<style>{STYLE}</style><defs>{tip}</defs>", *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    (FOLDER / "rooms.svg").write_text(rooms_svg(), encoding="utf-8")
    (FOLDER / "steps.svg").write_text(steps_svg(read_steps()), encoding="utf-8")
