"""A pack in a listing, and the pictures that are read out of it.

A pack is listed as one file; its members are known only when it is read. Each member has the interface of a photograph:
key, size, stamp, read.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass, field

from hfd.errors import DataError, printable
from hfd.image.load import IMAGE_SUFFIXES
from hfd.image.tree import Selection
from hfd.io.storage import Folder
from pipelines.corpus.packs.fields import Condition, Fields
from pipelines.corpus.patterns import ignored

MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Pack:
    """One file of many pictures. ``key``: below which the keys of its members are. Otherwise as a photograph."""

    key: str
    folder: Folder
    name: str
    size: int
    stamp: str
    archive: str = ""
    share: float = 1.0
    """Share of its members to use: see :func:`is_chosen`."""

    @property
    def version(self) -> str:
        """The stamp of each member: it changes with any change of the pack or of the share."""
        return f"{self.stamp}:{self.size}" + (f":{self.share}" if self.share < 1.0 else "")

    @property
    def bounds(self) -> tuple[str, str]:
        """The smallest and the largest key that members, or the pack itself, can have."""
        return self.key, f"{self.key}/\U0010ffff"


@dataclass(frozen=True)
class MemberSettings:
    """Settings of reading pictures.

    ``max_bytes``: of a picture; larger ones are rejected before they are read. ``image_column``: of Parquet files;
    None: the only one, or ``image``. ``metadata``: fields to carry to the photo table. ``where``: all must hold.
    ``ignore``: patterns of members to leave out.
    """

    max_bytes: int = MAX_BYTES
    image_column: str | None = None
    metadata: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    ignore: tuple[str, ...] = ()

    def selection(self) -> Selection:
        """Return what takes the pictures among the members of packs, and counts the others."""
        return Selection(IMAGE_SUFFIXES, ignores=ignored(self.ignore))

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields to read, each once."""
        return tuple(dict.fromkeys([*self.metadata, *(name for name, _, _ in self.where)]))


def is_chosen(key: str, share: float) -> bool:
    """Return True for a ``share`` of all keys, by their hashes; a larger share chooses the same keys and more."""
    return share >= 1.0 or int.from_bytes(_short_hash(key), "big") < share * 2.0**64


def too_large(what: str, size: int, settings: MemberSettings) -> DataError:
    """Return the error for a picture of more than `MemberSettings.max_bytes` bytes."""
    return DataError(
        f"{what}: got {size} bytes, expected at most {settings.max_bytes}. Leave it out or raise prepare.max_bytes",
        reason="too-large",
    )


@dataclass(frozen=True)
class Member:
    """A picture of a pack, with its bytes or the error of reading it. A fault of the pack itself has the pack's key."""

    key: str
    size: int
    stamp: str
    data: bytes | DataError
    fields: Fields = ()

    def read(self) -> bytes:
        """Return the bytes, or raise the error."""
        if isinstance(self.data, DataError):
            raise self.data
        return self.data


@dataclass
class Keys:
    """Gives each member of a pack a key of its own. The names are remembered as hashes of eight bytes."""

    pack: Pack
    _taken: set[bytes] = field(default_factory=set)

    def key(self, name: str) -> str:
        """Return ``pack/name``, with a number behind it if the pack holds the name already."""
        shown = printable(os.fsencode(name).decode(errors="surrogateescape"))
        shown = shown.removeprefix("./")
        tried = (shown if number == 1 else f"{shown} ({number})" for number in itertools.count(1))
        own = next(one for one in tried if _short_hash(one) not in self._taken)
        self._taken.add(_short_hash(own))
        return f"{self.pack.key}/{own}"


def _short_hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
