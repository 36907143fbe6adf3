"""Find the finished evaluations that the command line names: folders, prefixes, names of runs, tracking runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from hfd.io.uris import check_place
from pipelines.compare.finished import MANIFEST, Finished, read_finished
from pipelines.compare.tracked import RUN, read_tracked
from pipelines.evaluate import SPEC
from pipelines.runs.step import read_latest

_LABELLED = re.compile(r"(?P<label>[A-Za-z0-9][A-Za-z0-9 ._-]{0,63})=(?P<place>.+)", re.DOTALL)
_RUN_ID = re.compile(r"[0-9a-f]{32}")
RUNS = "runs"
"""The folder of workspaces by name, as ``workspace`` has it by default."""


@dataclass(frozen=True)
class Wanted:
    """An argument: ``label`` is empty where none was given."""

    label: str
    place: str


def parse_argument(argument: str) -> Wanted:
    """Split ``LABEL=PLACE``; a folder whose name holds = is a place."""
    match = _LABELLED.fullmatch(argument)
    if match is None or (Folder(argument).is_local and Folder(argument).exists()):
        return Wanted("", argument)
    return Wanted(match["label"], match["place"])


def find_all(arguments: Sequence[str], tracking: str | None) -> list[Finished]:
    """Read every evaluation, each once, and name them. Raises :class:`hfd.errors.HfdError` with one line."""
    found: dict[str, tuple[Wanted, Finished]] = {}
    for argument in arguments:
        wanted = parse_argument(argument)
        one = _find(wanted.place, tracking)
        found.setdefault(one.place, (wanted, one))
    pairs = list(found.values())
    short = [_short_name(wanted, one) for wanted, one in pairs]
    twice = {name for name, count in Counter(short).items() if count > 1}
    names = [f"{name}/{one.key[:6]}" if name in twice else name for name, (_, one) in zip(short, pairs, strict=True)]
    return [one.named(name, wanted.label or name) for name, (wanted, one) in zip(names, pairs, strict=True)]


def _short_name(wanted: Wanted, one: Finished) -> str:
    if one.folder is None:
        return wanted.label or f"run {one.place.removeprefix(RUN)[:8]}"
    parts = one.place.partition("?")[0].rstrip("/").split("/")
    workspace = parts[-3] if len(parts) > 2 and parts[-2] == SPEC.name else parts[-1]
    return workspace or wanted.label or one.key


def _find(place: str, tracking: str | None) -> Finished:
    check_place(place)
    for candidate in [place, *([f"{RUNS}/{place}"] if re.fullmatch(r"[^/:]+", place) else [])]:
        folder = Folder(check_place(candidate))
        folder = Folder(str(folder.path)) if folder.is_local else folder
        if folder.exists():
            return _in_folder(folder)
    if _RUN_ID.fullmatch(place):
        return read_tracked(place, tracking)
    raise ConfigError(
        f"{place}: got no such folder, expected a workspace with a finished evaluation, a name under {RUNS}/ or the id "
        "of an MLflow run. Run hfd evaluate first, or correct the name"
    )


def _in_folder(folder: Folder) -> Finished:
    """Read the evaluation of a step's folder, or the newest one of a workspace."""
    if folder.exists(MANIFEST):
        return read_finished(folder)
    latest = str(read_latest(folder).get("report", "")).rpartition("/")[0]
    if latest and folder.exists(f"{latest}/{MANIFEST}"):
        return read_finished(folder / latest)
    newest = _newest(folder)
    if newest is None:
        raise ConfigError(
            f"{folder.uri}: got no finished evaluation, expected one in {SPEC.name}/. Run hfd evaluate first, or give "
            "another workspace"
        )
    return read_finished(newest)


def _newest(workspace: Folder) -> Folder | None:
    """Return the newest finished evaluation of a workspace whose ``latest.json`` names none."""
    if not workspace.exists(SPEC.name):
        return None
    home, ends = workspace / SPEC.name, {}
    for entry in home.files():
        key, _, name = entry.key.partition("/")
        if name != MANIFEST:
            continue
        try:
            ends[key] = str(json.loads((home / key).read(MANIFEST))["finished"])
        except (DataError, ValueError, KeyError, TypeError):
            ends[key] = ""  # read_finished reports it
    return home / max(ends, key=lambda key: (ends[key], key)) if ends else None
