"""The contents of a workspace, from one listing and the manifests of its finished steps."""

from __future__ import annotations

import datetime
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hfd.errors import ConfigError, DataError
from hfd.io.entry import Entry
from hfd.io.storage import Folder
from pipelines.promote.step import CHAMPION_STEP
from pipelines.runs.step import MARKS, read_latest
from pipelines.workflow import STEP_NAMES

STEPS = (*STEP_NAMES, CHAMPION_STEP)
"""Names of the folders of steps."""

MANIFEST, CHECKPOINTS = "manifest.json", "checkpoints/"

_BESIDE = {"latest.json", MARKS, "warm-start", "mlflow.db", "mlartifacts"}
"""Names that a run writes beside its steps. They stay."""
_KEY = re.compile(r"[0-9a-f]{16}")
_NEWEST = re.compile(r"prepare/newest-[0-9a-f]{16}\.json")
_READERS = 16


@dataclass(frozen=True)
class StepFolder:
    """The output of a step: ``name`` is STEP/KEY; ``checkpoint_bytes``: the part of ``num_bytes`` in checkpoints.

    ``written``: seconds since 1970, of the newest file. ``digest``, ``inputs`` (digests) and ``finished`` (seconds
    since 1970) are from the manifest; of an unfinished step None, empty and None.
    """

    name: str
    num_files: int
    num_bytes: int
    checkpoint_bytes: int
    written: float
    digest: str | None = None
    inputs: frozenset[str] = frozenset()
    finished: float | None = None

    @property
    def step(self) -> str:
        return self.name.partition("/")[0]

    @property
    def time(self) -> float:
        """The time of its end or, unfinished, of its newest file."""
        return self.written if self.finished is None else self.finished


@dataclass(frozen=True)
class Contents:
    """``folders`` by name, in order; ``latest``: those that ``latest.json`` names, with what they are; ``newest``: the
    snapshots that ``prepare`` copies from; ``marked``: those whose deletion has begun; ``foreign``: other names at the
    top of the workspace, which nothing here touches."""

    folders: Mapping[str, StepFolder]
    latest: Mapping[str, str]
    newest: frozenset[str]
    marked: frozenset[str]
    foreign: tuple[str, ...]


def read_contents(workspace: Folder) -> Contents:
    """List a workspace. Raises :class:`ConfigError` for a folder that is no workspace, :class:`DataError`."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    other: list[str] = []
    for entry in _files(workspace):
        step, _, rest = entry.key.partition("/")
        key, slash, name = rest.partition("/")
        if step in STEPS and slash and _KEY.fullmatch(key) and not _is_link(workspace, step, f"{step}/{key}"):
            entries[f"{step}/{key}"].append(Entry(name, entry.size, entry.stamp))
        else:
            other.append(entry.key)
    if not entries and "latest.json" not in other:
        raise ConfigError(
            f"workspace: got {workspace.uri}, without the output of a step, expected a workspace. Set workspace or name"
        )
    with ThreadPoolExecutor(_READERS) as pool:
        folders = list(pool.map(lambda name: _step_folder(workspace, name, entries[name]), sorted(entries)))
        newest = pool.map(lambda key: _newest_of(workspace, key), filter(_NEWEST.fullmatch, other))
        return Contents(
            {folder.name: folder for folder in folders},
            _latest(workspace),
            frozenset(newest),
            frozenset(key.removeprefix(f"{MARKS}/") for key in other if key.startswith(f"{MARKS}/")),
            tuple(sorted({_foreign_name(key) for key in other if not _is_ours(key)})),
        )


def _files(workspace: Folder) -> Iterable[Entry]:
    try:
        return workspace.files()
    except DataError as error:
        if error.reason not in ("missing", "not-a-folder"):
            raise
        raise ConfigError(f"workspace: {error}") from error


def _is_link(workspace: Folder, *names: str) -> bool:
    return workspace.is_local and any((workspace.path / name).is_symlink() for name in names)


def _is_ours(key: str) -> bool:
    return key.partition("/")[0] in _BESIDE or _NEWEST.fullmatch(key) is not None


def _foreign_name(key: str) -> str:
    top, slash, rest = key.partition("/")
    return f"{top}/{rest.partition('/')[0]}" if top in STEPS and slash else top


def _step_folder(workspace: Folder, name: str, files: list[Entry]) -> StepFolder:
    size, kept = sum(file.size for file in files), [file.size for file in files if file.key.startswith(CHECKPOINTS)]
    found = StepFolder(name, len(files), size, sum(kept), max(_seconds(file.stamp) for file in files))
    if not any(file.key == MANIFEST for file in files):
        return found
    manifest = (workspace / name).read(MANIFEST)
    try:
        record: dict[str, Any] = json.loads(manifest)
        if f"{record['step']}/{record['key']}" != name:
            raise ValueError(f"of {record['step']}/{record['key']}")
        finished = datetime.datetime.fromisoformat(record["finished"]).timestamp()
        return StepFolder(
            name, len(files), size, sum(kept), found.written,
            str(record["digest"]), frozenset(map(str, record["inputs"].values())), finished,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{workspace.uri}/{name}/{MANIFEST}: not readable ({error}), expected the record of a step. "
            "Delete the folder and run again"
        ) from error


def _seconds(stamp: str) -> float:
    """Seconds of a stamp, which is a time in nanoseconds; 0 for any other."""
    return int(stamp) / 1e9 if stamp.isdecimal() else 0.0


def _newest_of(workspace: Folder, note: str) -> str:
    try:
        return f"prepare/{json.loads(workspace.read(note))['key']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _latest(workspace: Folder) -> dict[str, str]:
    """STEP/KEY -> the names in ``latest.json`` that point into it."""
    names: dict[str, list[str]] = defaultdict(list)
    for what, place in read_latest(workspace).items():
        names["/".join(str(place).split("/")[:2])].append(str(what))
    return {folder: " and ".join(sorted(what)) for folder, what in names.items()}
