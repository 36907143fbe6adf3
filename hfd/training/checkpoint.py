"""Checkpoints: written whole, the last two kept, read without running anything that they contain."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch

from hfd.errors import TrainingError
from hfd.storage import Folder

KEEP = 2


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training. ``identity`` is what the run is a function of, flat: key -> value."""

    folder: Folder
    identity: dict[str, str]

    def save(self, step: int, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "step": step, "state": state}, buffer)
        self.folder.write(_name(step), buffer.getvalue())
        for name in self._names()[:-KEEP]:
            self.folder.delete(name)

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """Step and state of the newest readable checkpoint. Raises :class:`TrainingError` if another
        configuration made it."""
        for name in reversed(self._names()):
            data = self.folder.read(name)
            try:
                saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                identity, step, state = dict(saved["identity"]), int(saved["step"]), dict(saved["state"])
            except Exception:
                # Damaged bytes end in a dozen kinds of exception, from struct.error to IndexError.
                self.folder.delete(name)
                continue
            self._check_identity(identity, name)
            return step, state
        return None

    def clear(self) -> None:
        for name in self._names():
            self.folder.delete(name)

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
