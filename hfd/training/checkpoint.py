"""Checkpoints of a training: written atomically, the last two kept, read without unpickling code."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch

from hfd.errors import TrainingError
from hfd.io.storage import Folder

KEEP = 2


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training. ``identity``: the settings and inputs of the training, flat."""

    folder: Folder
    identity: dict[str, str]

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint, then delete all but the last ``KEEP``."""
        # Directly into the file: a buffer would be another copy of the state.
        with self.folder.writing(_name(step)) as stream:
            try:
                torch.save({"identity": self.identity, "step": step, "state": state}, stream)
            except RuntimeError as error:
                # After a full disk torch reports its failure to close the archive, not the cause.
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        for name in self._names()[:-KEEP]:
            self.folder.delete(name)

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and state of the newest readable checkpoint, and delete damaged ones.

        Raises :class:`TrainingError` if another configuration made it.
        """
        for name in reversed(self._names()):
            found = self._load(name)
            if found is not None:
                return found
            self.folder.delete(name)
        return None

    def newest(self) -> int | None:
        """Return the step of the checkpoint that :meth:`latest` returns."""
        found = self.latest()
        return None if found is None else found[0]

    def read(self, step: int) -> tuple[int, dict[str, Any]]:
        """Return step and state of a checkpoint that another worker has read. Raises :class:`TrainingError`."""
        found = self._load(_name(step))
        if found is None:
            raise TrainingError(
                f"{self.folder.uri}/{_name(step)}: got damaged bytes, expected what the first worker read. "
                "Run the same command again"
            )
        return found

    def clear(self) -> None:
        for name in self._names():
            self.folder.delete(name)

    def _load(self, name: str) -> tuple[int, dict[str, Any]] | None:
        data = self.folder.read(name)
        try:
            saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            identity, step, state = dict(saved["identity"]), int(saved["step"]), dict(saved["state"])
        except Exception:
            # Damaged bytes raise many kinds of exceptions, from struct.error to IndexError.
            return None
        self._check_identity(identity, name)
        return step, state

    def _names(self) -> list[str]:
        if not self.folder.exists():
            return []
        return [entry.key for entry in self.folder.files() if entry.key.startswith("checkpoint-")]

    def _check_identity(self, found: dict[str, str], name: str) -> None:
        keys = sorted(found.keys() | self.identity.keys())
        differing = [
            f"{key} was {found.get(key, 'absent')}, is {self.identity.get(key, 'absent')}"
            for key in keys
            if found.get(key) != self.identity.get(key)
        ]
        if differing:
            raise TrainingError(
                f"{self.folder.uri}/{name}: belongs to another configuration ({'; '.join(differing[:6])}). "
                "Delete the folder, or restore these settings"
            )


def _name(step: int) -> str:
    return f"checkpoint-{step:09d}.pt"
