"""Step 1: photographs to shards of source crops, and a table of what was rejected and why."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hfd.data.crops import CropSettings, SourceCrop, source_crops
from hfd.data.shards import SPLITS, open_shard, row_of, shard_name
from hfd.errors import DataError
from hfd.storage import Folder
from pipelines.context import Context
from pipelines.corpus import Corpus, Photo
from pipelines.parts import digest_of_parts, run_parts
from pipelines.steps import Done, Outcome, Step

NAME = "prepare"


@dataclass(frozen=True)
class ShardPlan:
    """The photographs of one shard, in the corpus's order, and how they are cut."""

    photos: tuple[Photo, ...]
    settings: CropSettings


def plan(context: Context, corpus: Corpus) -> Step:
    settings = {
        "seed": context.config.seed,
        **context.config.prepare.model_dump(mode="json", exclude={"max_reject_share"}),
    }
    return Step(NAME, context.workspace, settings, {"corpus": corpus.digest})


def run(context: Context, corpus: Corpus) -> Done:
    return context.do(plan(context, corpus), lambda folder, _run: _prepare(context, corpus, folder))


def _prepare(context: Context, corpus: Corpus, folder: Folder) -> Outcome:
    config = context.config.prepare
    settings = CropSettings(
        seed=context.config.seed, **config.model_dump(exclude={"max_reject_share", "photos_per_shard"})
    )
    size = config.photos_per_shard
    plans = [ShardPlan(corpus.photos[start : start + size], settings) for start in range(0, len(corpus.photos), size)]
    with context.display.bar("prepare", "shards") as progress:
        results = run_parts(context.engine, folder, plans, prepare_shard, progress)
    rejects = [reject for result in results for reject in result["rejects"]]
    _write_rejects(folder, rejects)
    reasons = Counter(reject["reason"] for reject in rejects)
    facts: dict[str, Any] = {
        "photos": len(corpus.photos),
        "rejected": len(rejects),
        "reasons": dict(sorted(reasons.items())),
        "other_files": corpus.num_other_files,
        **{f"{split}_crops": sum(result["crops"][split] for result in results) for split in SPLITS},
        "pixels": sum(result["pixels"] for result in results),
    }
    _check_enough(context, corpus, folder, facts)
    return Outcome(digest_of_parts(results), facts)


def prepare_shard(index: int, count: int, folder: Folder, plan: ShardPlan) -> dict[str, Any]:
    """Cut one shard's photographs. Whole decoded photographs live here, one at a time, and nowhere else."""
    rejects: list[dict[str, str]] = []
    crops = dict.fromkeys(SPLITS, 0)
    pixels = 0
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        writers = {
            split: stack.enter_context(open_shard(folder, shard_name(split, index, count), ("x",))) for split in SPLITS
        }
        for crop in _crops(plan, rejects):
            writers[crop.split].add(row_of(crop))
            digest.update(f"{crop.split} {crop.id} {crop.x.shape}".encode())
            digest.update(crop.x.data)
            crops[crop.split] += 1
            pixels += crop.x.shape[0] * crop.x.shape[1]
    return {"digest": digest.hexdigest(), "rejects": rejects, "crops": crops, "pixels": pixels}


def _crops(plan: ShardPlan, rejects: list[dict[str, str]]) -> Iterator[SourceCrop]:
    for photo in plan.photos:
        try:
            yield from source_crops(photo.read(), photo.key, plan.settings)
        except DataError as error:
            if error.is_outage:
                raise
            rejects.append({"photo": photo.key, "reason": error.reason, "message": str(error)})


def _write_rejects(folder: Folder, rejects: list[dict[str, str]]) -> None:
    schema = pa.schema([("photo", pa.string()), ("reason", pa.string()), ("message", pa.string())])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rejects, schema=schema), buffer)
    folder.write("rejects.parquet", buffer.getvalue())


def _check_enough(context: Context, corpus: Corpus, folder: Folder, facts: dict[str, Any]) -> None:
    share, limit = facts["rejected"] / facts["photos"], context.config.prepare.max_reject_share
    if share > limit:
        reasons = ", ".join(f"{count} {reason}" for reason, count in facts["reasons"].items())
        raise DataError(
            f"data.uri: {facts['rejected']} of {facts['photos']} photographs in {corpus.uri} rejected ({reasons}), "
            f"expected at most {limit:.0%}. See {folder.uri}/rejects.parquet, or raise prepare.max_reject_share",
            reason="too-many-rejects",
        )
    if not facts["train_crops"]:
        raise DataError(
            f"data.uri: got no training crops from {facts['photos']} photographs. Give more photographs",
            reason="empty",
        )
