"""The outputs of a part of the prepare step, while they are written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hfd.data.shards import SPLITS, ShardWriter, open_shard, shard_name
from hfd.io.storage import Folder
from pipelines.prepare.features import FeatureWriter


@dataclass(frozen=True)
class PartWriters:
    """The outputs of a part: the shard of each split, and the table of features if photographs are compared by them."""

    shards: Mapping[str, ShardWriter]
    features: FeatureWriter | None


@contextlib.contextmanager
def open_writers(folder: Folder, index: int, count: int) -> Iterator[dict[str, ShardWriter]]:
    """Open the shard of each split of a part; they appear only if the block ends without an error."""
    with contextlib.ExitStack() as stack:
        yield {
            split: stack.enter_context(open_shard(folder, shard_name(split, index, count), ("x",))) for split in SPLITS
        }
