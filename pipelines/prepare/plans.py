"""Plans of the parts of the prepare step: picklable, with all that a worker needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hfd.data.crops import CropSettings
from hfd.data.filters import FilterSettings
from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.packs.members import members
from pipelines.corpus.packs.pack import MemberSettings, Pack
from pipelines.corpus.photo import Photo
from pipelines.runs.parts import KILLED_WORKER

GLOBAL_REASONS = ("in-evaluation", "duplicate", "near-duplicate", "near-features")
"""Reasons from comparison with other pictures, after all parts; all others are a photograph's own."""

FILTERED = "filtered"
"""Reason of photographs that do not meet ``data.where``: they are not counted among the unusable ones."""

PASSING_REASONS = ("changed", "missing", "permission", "archived", "encrypted", KILLED_WORKER)
"""Temporary reasons: a later snapshot tries these photographs again."""


@dataclass(frozen=True)
class ExamineSettings:
    """Settings for examining and cutting one photograph, independent of the rest of the corpus.

    ``hashed``, ``embedded``: compute its perceptual hash, and its features.
    """

    crops: CropSettings
    filters: FilterSettings
    hashed: bool
    members: MemberSettings = field(default_factory=MemberSettings)
    embedded: bool = False


@dataclass(frozen=True)
class EarlierSnapshot:
    """A finished snapshot in ``count`` parts, made with the same settings."""

    folder: Folder
    count: int


@dataclass(frozen=True)
class ShardPlan:
    """The photographs of one shard, in the corpus's order, and the settings."""

    photos: Sequence[Photo]
    settings: ExamineSettings
    earlier: EarlierSnapshot | None = None
    killers: frozenset[int] = frozenset()
    """Indices of photographs to reject without reading them: workers died on them."""

    def __len__(self) -> int:
        return len(self.photos)

    def only(self, index: int) -> ShardPlan:
        return replace(self, photos=(self.photos[index],), killers=frozenset())

    def rejecting(self, indices: frozenset[int]) -> ShardPlan:
        return replace(self, killers=self.killers | indices)


@dataclass(frozen=True)
class PackPlan:
    """A pack, whose pictures make one shard in the pack's order, and the settings.

    Nothing of the pack is read before its part is done, unless workers keep dying on it.
    """

    pack: Pack
    settings: ExamineSettings
    earlier: EarlierSnapshot | None = None
    killers: frozenset[int] = frozenset()
    alone: int | None = None
    """Index of the only member to examine; None: all."""

    def __len__(self) -> int:
        return sum(1 for _ in members(self.pack, self.settings.members))

    def only(self, index: int) -> PackPlan:
        return replace(self, alone=index, killers=frozenset(), earlier=None)

    def rejecting(self, indices: frozenset[int]) -> PackPlan:
        return replace(self, killers=self.killers | indices)


@dataclass(frozen=True)
class RewritePlan:
    """Shard ``index`` of ``count`` in ``folder``, to be rewritten with the photographs ``stay``.

    ``order``: the keys of all photographs of the part, in its order. ``missing``: those of ``stay`` that the shard
    lacks so far; photographs, or keys in ``pack``.
    """

    folder: Folder
    index: int
    count: int
    order: tuple[str, ...]
    stay: frozenset[str]
    missing: tuple[Photo, ...] | frozenset[str]
    settings: ExamineSettings
    pack: Pack | None = None


def checked(data: bytes | DataError) -> bytes | DataError:
    """Raise an outage; any other failure to fetch rejects the photograph."""
    if isinstance(data, DataError) and data.is_outage:
        raise data
    return data
