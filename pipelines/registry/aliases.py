"""Read which versions of a registered model are, or were, its champion and the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.tracking.client import is_missing

CHAMPION, PREVIOUS = "champion", "previous"
"""Aliases of versions."""

NAMED = "hfd.champion"
"""Tag of the model: the version that was made champion last. MLflow deletes an alias with its version."""


@dataclass(frozen=True)
class Aliases:
    """The aliases of ``model``. Methods raise MLflow's errors; a model that does not exist has no aliases."""

    client: Any
    model: str

    def champion(self) -> int | None:
        """Return the champion; None if there is none, or its version was deleted."""
        return self._existing(self._number(CHAMPION))

    def previous(self) -> int | None:
        """Return the champion before this one; None if there is none, or its version was deleted."""
        return self._existing(self._number(PREVIOUS))

    def deleted_champion(self) -> int | None:
        """Return the number of a champion whose version was deleted; None if there is a champion, or never was one."""
        # Servers of MLflow before 2026-08 keep an alias whose version is deleted.
        number = self._number(CHAMPION) or self._named()
        return number if number is not None and self._existing(number) is None else None

    def _number(self, alias: str) -> int | None:
        found = self._find_model()
        return int(found.aliases[alias]) if found is not None and alias in found.aliases else None

    def _named(self) -> int | None:
        found = self._find_model()
        text = "" if found is None else found.tags.get(NAMED, "")
        return int(text) if text.isdigit() else None

    def _find_model(self) -> Any:
        try:
            return self.client.get_registered_model(self.model)
        except Exception as error:
            if is_missing(error):
                return None
            raise

    def _existing(self, number: int | None) -> int | None:
        """Return the number unless there is no such version."""
        if number is None:
            return None
        try:
            self.client.get_model_version(self.model, str(number))
        except Exception as error:
            if is_missing(error):
                return None
            raise
        return number
