"""Steps with content keys: skipped when done, resumed when interrupted.

A step's folder is ``<workspace>/<step>/<key>``; the key is a digest of the step's settings and of the digests of its
inputs. A step is done when ``manifest.json``, written last, exists. The manifest holds the digest of the output, so the
keys of later steps depend on contents, never on times or paths.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import hfd
from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder

FORMAT = 1
"""Version of the outputs; a new version recomputes all earlier outputs."""

MARKS = "deleting"
"""Folder of marks: ``deleting/STEP/KEY`` exists while that output is being deleted (:mod:`pipelines.retention`)."""


@dataclass(frozen=True)
class Manifest:
    """The record of a finished step. ``digest``: of its output; ``facts``: counts and figures for people."""

    step: str
    key: str
    digest: str
    facts: Mapping[str, Any]
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The result of a step's work: the digest of its output, and facts."""

    digest: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """A step with resolved inputs: its settings, inputs, key and folder."""

    name: str
    workspace: Folder
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def key(self) -> str:
        return digest_of({"format": FORMAT, "step": self.name, "settings": self.settings, "inputs": self.inputs})[:16]

    @property
    def folder(self) -> Folder:
        return self.workspace / f"{self.name}/{self.key}"

    @property
    def identity(self) -> dict[str, str]:
        """Settings and inputs in flat form, to compare checkpoints by."""
        return flatten({"settings": self.settings, "inputs": self.inputs})

    def manifest(self) -> Manifest | None:
        """Return the manifest, or None while the step is not done."""
        try:
            data = self.folder.read("manifest.json")  # without exists(): on S3 that would be a second request
        except DataError as error:
            if error.reason == "missing":
                return None
            raise
        try:
            found = json.loads(data)
            return Manifest(**{name: found[name] for name in Manifest.__dataclass_fields__})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.folder.uri}/manifest.json: not readable. Delete the folder and run again"
            ) from error


@dataclass(frozen=True)
class Done:
    """A finished step, its manifest, and whether it was done before this run."""

    step: Step
    manifest: Manifest
    skipped: bool

    @property
    def folder(self) -> Folder:
        return self.step.folder

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.manifest.digest, self.manifest.facts)


def run_step(step: Step, work: Callable[[Folder], Outcome], guard: Callable[[], None] = lambda: None) -> Done:
    """Run a step unless it is done.

    ``work`` writes each file of the folder atomically, and resumes the work of an interrupted run. ``guard`` raises
    if another run has taken over the workspace; then no manifest is written.
    """
    manifest = step.manifest()
    if manifest is not None:
        return Done(step, manifest, skipped=True)
    if step.workspace.exists(f"{MARKS}/{step.name}/{step.key}"):  # what a killed deletion left is no work to resume
        step.workspace.delete(f"{step.name}/{step.key}")
        step.workspace.delete(f"{MARKS}/{step.name}/{step.key}")
    step.folder.sweep_temporaries()
    started = time.monotonic()
    outcome = work(step.folder)
    guard()
    record = {
        "format": FORMAT,
        "step": step.name,
        "key": step.key,
        "digest": outcome.digest,
        "facts": dict(outcome.facts),
        "inputs": dict(step.inputs),
        "settings": dict(step.settings),
        "seconds": round(time.monotonic() - started, 3),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hfd": hfd.__version__,
    }
    step.folder.write("manifest.json", json.dumps(record, indent=2).encode() + b"\n")
    manifest = step.manifest()
    assert manifest is not None
    return Done(step, manifest, skipped=False)


def require(step: Step, command: str) -> Done:
    """Return a step that must be done. Raises :class:`ConfigError` that names the command to run first."""
    manifest = step.manifest()
    if manifest is None:
        raise ConfigError(f"{step.name}: not done for these settings ({step.folder.uri}). Run hfd {command} first")
    return Done(step, manifest, skipped=True)


@contextlib.contextmanager
def naming_incomplete(workspace: Folder) -> Iterator[None]:
    """Name the output to delete if a finished one lacks a file: the same command alone would end at it again.

    It is not deleted here: it may hold days of training, and the file may be restored.
    """
    try:
        yield
    except DataError as error:
        found = re.match(rf"{re.escape(workspace.uri.rstrip('/'))}/+([\w-]+/[0-9a-f]{{16}})/", str(error))
        if error.reason != "missing" or found is None or not workspace.exists(f"{found[1]}/manifest.json"):
            raise
        raise DataError(
            f"{error}. Restore it, or delete {workspace.uri}/{found[1]}, which was finished with it, and run the same "
            "command again: that step runs anew",
            reason=error.reason,
        ) from error


def digest_of(value: Any) -> str:
    """Return the SHA-256 hex of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value)
    return flat


def describe_other_format(workspace: Folder) -> str | None:
    """Describe outputs that another version of this program made, in one line; None where ``latest.json`` names none.

    Their keys differ from today's, so every step would run again: hours that a user should know of beforehand. Raises
    :class:`DataError` where ``latest.json`` is unreadable.
    """
    for place in read_latest(workspace).values():
        folder = "/".join(str(place).split("/")[:2])  # STEP/KEY, also of a report in it
        try:
            found = json.loads((workspace / folder).read("manifest.json")).get("format")
        except (DataError, ValueError, AttributeError):
            continue  # whoever needs that folder reports what is wrong with it
        if found != FORMAT:
            return (
                f"{workspace.uri}: got outputs of format {found!r} ({folder}), expected {FORMAT}. Every step runs "
                "again in a new folder; the old folders stay, delete them once nothing needs them"
            )
    return None


def is_latest(workspace: Folder, names: Mapping[str, str]) -> bool:
    """True if ``latest.json`` names these paths already."""
    return names.items() <= read_latest(workspace).items()


def point_latest(workspace: Folder, **names: str) -> None:
    """Update the paths of the newest ``model`` and ``report`` in ``latest.json``; others stay."""
    latest = read_latest(workspace)
    if not names.items() <= latest.items():
        workspace.write("latest.json", json.dumps({**latest, **names}, indent=2, sort_keys=True).encode() + b"\n")


def read_latest(workspace: Folder) -> dict[str, Any]:
    """Return the paths in ``latest.json`` by name; empty where it does not exist."""
    try:
        return dict(json.loads(workspace.read("latest.json"))) if workspace.exists("latest.json") else {}
    except (ValueError, TypeError) as error:
        raise DataError(f"{workspace.uri}/latest.json: not readable. Delete it and run again") from error
