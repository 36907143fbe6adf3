"""Rewrite a shard of the prepare step without duplicates."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from hfd.data.crops import Crop
from hfd.data.examine import examine
from hfd.data.shards import SPLITS, iterate_shard, shard_name
from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.packs.members import members
from pipelines.prepare.plans import RewritePlan
from pipelines.prepare.writers import open_writers
from pipelines.runs.parts import StepPart


def rewrite_part(part: StepPart[RewritePlan]) -> dict[str, Any]:
    """Rewrite a shard with exactly the photographs of its plan. Idempotent: existing crops are copied."""
    plan = part.payload
    held = {split: _by_photo(plan.folder, shard_name(split, plan.index, plan.count)) for split in SPLITS}
    fetched = 0
    with open_writers(plan.folder, plan.index, plan.count) as writers, _missing(plan) as missing:
        waiting = {split: next(held[split], None) for split in SPLITS}
        # Both are in the part's order: a shard holds some of the photographs of the part.
        for key in plan.order:
            found = False
            for split in SPLITS:
                group = waiting[split]
                if group is not None and group[0] == key:
                    found = True
                    waiting[split] = next(held[split], None)
                    for crop in group[1] if key in plan.stay else ():
                        writers[split].add(crop)
            if not found and (read := missing(key)) is not None:
                fetched += 1
                settings = plan.settings
                examined = examine(read(), key, settings.crops, settings.filters, hashed=settings.hashed)
                if examined.error is not None:
                    raise examined.error
                for crop in examined.crops:
                    writers[examined.split].add(crop)
    return {"photos": len(plan.stay), "fetched": fetched}


Missing = Callable[[str], Callable[[], bytes] | None]
"""Returns the function that reads a missing photograph; None for a key that is not missing. Asked in order."""


@contextlib.contextmanager
def _missing(plan: RewritePlan) -> Iterator[Missing]:
    if plan.pack is None:
        assert not isinstance(plan.missing, frozenset)
        photos = {photo.key: photo for photo in plan.missing}
        yield lambda key: photos[key].read if key in photos else None
        return
    assert isinstance(plan.missing, frozenset)
    wanted, pack = plan.missing, plan.pack
    with contextlib.closing(members(pack, plan.settings.members)) as found:

        def missing(key: str) -> Callable[[], bytes] | None:
            if key not in wanted:
                return None
            for member in found:
                if member.key == key:
                    return member.read
                if member.key == pack.key:
                    member.read()
            raise DataError(f"{key}: got a pack without it, expected it as listed. Run again", reason="changed")

        yield missing


def _by_photo(folder: Folder, shard: str) -> Iterator[tuple[str, list[Crop]]]:
    """Iterate over the photographs of a shard and their crops."""
    for photo, crops in itertools.groupby(iterate_shard(folder, shard), key=lambda crop: crop.photo):
        yield photo, list(crops)
