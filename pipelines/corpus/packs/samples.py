"""Samples of WebDataset: consecutive members whose names are equal up to the first dot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hfd.image.tree import suffix_of
from pipelines.corpus.packs.fields import chosen_fields
from pipelines.corpus.packs.pack import Member

MAX_SIDE_BYTES = 1 << 20
MAX_HELD_BYTES = 64 << 20
"""Pictures of a sample beyond this size do not wait for its later side files."""

SIDE_SUFFIXES = frozenset({".json", ".txt", ".caption", ".cls", ".licence", ".license"})


def base_of(name: str) -> str:
    """Return the name of the sample of a member: its folder, and its name up to the first dot."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


@dataclass
class Sample:
    """The pictures of one sample, which wait for its side files, and the fields of these."""

    base: str
    names: Sequence[str]
    pictures: list[Member] = field(default_factory=list)
    stated: dict[str, object] = field(default_factory=dict)

    @property
    def held_bytes(self) -> int:
        return sum(len(member.data) for member in self.pictures if isinstance(member.data, bytes))

    def add_side(self, name: str, data: bytes) -> None:
        """Take the fields of a side file: those of a JSON object, or a text under its suffix.

        A ``.txt`` is also the field ``caption``. Fields of JSON win. A file that cannot be read states nothing.
        """
        suffix = suffix_of(name)
        try:
            text = data.decode()
            stated = json.loads(text) if suffix == ".json" else text.strip()
        except (ValueError, RecursionError):
            return
        if isinstance(stated, dict):
            self.stated |= {str(name): value for name, value in stated.items()}
        elif suffix != ".json":
            self.stated.setdefault(suffix.removeprefix("."), stated)
            if suffix == ".txt":
                self.stated.setdefault("caption", stated)

    def take(self) -> Iterator[Member]:
        """Yield the waiting pictures with the fields that are known so far."""
        fields = chosen_fields(self.stated, self.names)
        waiting, self.pictures = self.pictures, []
        return (replace(member, fields=fields) for member in waiting)
