"""Step prepare: photographs to shards of source crops, and a table of rejected photographs with reasons.

The output depends on the settings and the corpus alone. Photographs that an earlier snapshot in the same workspace
holds with the same size and stamp are copied from its shards instead of being fetched.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hfd.config import Config
from hfd.data.crops import CropSettings
from hfd.data.filters import FilterSettings
from hfd.image.tree import Skipped, merged
from hfd.io.storage import Folder
from pipelines.context import Context, PlannedStep
from pipelines.corpus.listing import Corpus
from pipelines.corpus.packs.pack import MemberSettings
from pipelines.prepare import SPEC
from pipelines.prepare.data_card import write_card
from pipelines.prepare.deduplicate import NearFeatures, ReferencePictures, deduplicate, hash_evaluation_pictures
from pipelines.prepare.features import read_features
from pipelines.prepare.left_out import check_enough, lines_on_left_out, skipped_of_record
from pipelines.prepare.pack_notes import notes_on_packs
from pipelines.prepare.photo_table import TABLE, count_crops, number_rows, read_part_tables, write_rejects, write_table
from pipelines.prepare.plans import EarlierSnapshot, ExamineSettings, PackPlan, RewritePlan, ShardPlan
from pipelines.prepare.rewrite import rewrite_part
from pipelines.prepare.shard import prepare_part
from pipelines.runs.parts import part_name, run_parts
from pipelines.runs.step import FORMAT, Done, Outcome, Step, digest_of
from pipelines.tracking import StepRun

Plan: TypeAlias = ShardPlan | PackPlan


def plan(context: Context) -> PlannedStep:
    """Plan the step. Pictures of ``evaluate.data`` are inputs if photographs must differ from them."""
    assert context.inputs is not None
    corpus = context.inputs.photographs
    evaluation = context.pictures if context.config.prepare.drop_evaluation else None
    settings = {
        "seed": context.config.seed,
        **context.config.prepare.content(exclude={"max_reject_share"}),
    }
    if data := context.config.data.content(exclude={"uri", "sources"}):
        settings["data"] = data
    apart = {"evaluation": evaluation.digest} if evaluation else {}
    step = Step(SPEC.name, context.workspace, settings, {"corpus": corpus.digest, **apart})

    def note_newest(done: Done) -> None:
        if not done.skipped:
            context.workspace.write(_newest(context), json.dumps({"key": step.key}).encode() + b"\n")

    return PlannedStep(
        context, step, lambda folder, record: _prepare(context, corpus, evaluation, folder, record), note_newest
    )


def _prepare(context: Context, corpus: Corpus, evaluation: Corpus | None, folder: Folder, record: StepRun) -> Outcome:
    plans = plan_shards(context.config, corpus, _earlier(context, folder))
    table, copied, skipped = _cut(context, plans, folder)
    config = context.config.prepare
    if evaluation is not None or config.drop_duplicates:
        known = ReferencePictures()
        if evaluation is not None:
            known = hash_evaluation_pictures(context, evaluation, folder / "evaluation", config.max_pixels)
        cut = table
        table = _deduplicate(context, cut, known, folder, len(plans))
        _rewrite(context, plans, folder, cut, table)
    table = number_rows(table)
    write_table(folder, TABLE, table)
    write_rejects(folder, table)
    kept = table.filter(pc.is_null(table["reason"]))
    facts: dict[str, Any] = {
        "photos": len(table),
        "rejected": len(table) - len(kept),
        "reasons": dict(sorted(Counter(reason for reason in table["reason"].to_pylist() if reason).items())),
        "other_files": corpus.num_other_files,
        "skipped": corpus.skipped.to_record(),
        "copied": copied,
        **({"packs": len(corpus.packs), "parts": len(plans)} if corpus.packs else {}),
        **({"skipped_in_packs": skipped.to_record()} if corpus.packs else {}),
        **{f"{split}_crops": crops for split, crops in count_crops(kept).items()},
        "pixels": pc.sum(kept["pixels"]).as_py() or 0,
    }
    check_enough(table, config.max_reject_share, corpus.uri, folder)
    lines = [f"in packs, {skipped}"] if skipped else []
    lines += notes_on_packs(corpus.packs, len(plans) - len(corpus.packs), table)
    for line in [*lines, *lines_on_left_out(table, context.config.data.metadata, folder)]:
        context.display.say(f"data.uri: {line}")
    write_card(folder, len(plans), table, corpus, record)
    return Outcome(_digest(kept), facts)


def _cut(context: Context, plans: Sequence[Plan], folder: Folder) -> tuple[pa.Table, int, Skipped]:
    """Examine and crop every photograph; return their table, how many were copied, and what packs hold beside them."""
    existing = {entry.key for entry in folder.files()} if folder.exists() else set()
    if not all(part_name(index, len(plans)) in existing for index in range(len(plans))):
        # A shard that is made again contains the duplicates again.
        folder.delete("rewrites")
    with context.display.bar("prepare", "shards") as progress:
        results = run_parts(context.engine, folder, plans, prepare_part, progress)
    skipped = functools.reduce(merged, (skipped_of_record(result.get("skipped", ())) for result in results), Skipped())
    table = read_part_tables(folder, len(plans), context.config.data.metadata)
    return table, sum(result["copied"] for result in results), skipped


def _deduplicate(context: Context, cut: pa.Table, known: ReferencePictures, folder: Folder, num_parts: int) -> pa.Table:
    config = context.config.prepare
    if config.near_cosine is None:
        return deduplicate(cut, known, config.near_bits, among_themselves=config.drop_duplicates)
    with context.display.bar("prepare: features", "photographs") as progress:
        near = NearFeatures(read_features(folder, num_parts, len(cut)), config.near_cosine, progress)
        return deduplicate(cut, known, config.near_bits, among_themselves=config.drop_duplicates, near=near)


def plan_shards(config: Config, corpus: Corpus, earlier: EarlierSnapshot | None) -> list[Plan]:
    """Return the parts of the first pass, one for each shard: of so many photographs, or of one pack."""
    settings, size = _examine_settings(config), config.prepare.photos_per_shard
    photos = corpus.photos
    loose = [ShardPlan(photos[start : start + size], settings, earlier) for start in range(0, len(photos), size)]
    return [*loose, *(PackPlan(pack, settings, earlier) for pack in corpus.packs)]


def _rewrite(context: Context, plans: Sequence[Plan], folder: Folder, cut: pa.Table, table: pa.Table) -> None:
    """Rewrite the shards that hold dropped photographs, or lack ones that only an earlier snapshot dropped."""
    has_rows, stays = pc.is_valid(cut["row"]).to_numpy(), pc.is_null(table["reason"]).to_numpy()
    parts = table["part"].to_numpy()  # ascending
    payloads = []
    for index in np.unique(parts[has_rows != stays]).tolist():
        own = slice(*np.searchsorted(parts, (index, index + 1)))
        keys = np.array(table["photo"][own].to_pylist(), dtype=object)
        stay, missing = (frozenset(keys[chosen[own]]) for chosen in (stays, stays & ~has_rows))
        payloads.append(_rewrite_plan(folder, index, plans, tuple(keys), stay, missing))
    if not payloads:
        return
    with context.display.bar("prepare: duplicates", "shards") as progress:
        run_parts(context.engine, folder / "rewrites", payloads, rewrite_part, progress)


def _rewrite_plan(
    folder: Folder,
    index: int,
    plans: Sequence[Plan],
    order: tuple[str, ...],
    stay: frozenset[str],
    missing: frozenset[str],
) -> RewritePlan:
    plan = plans[index]
    if isinstance(plan, PackPlan):
        return RewritePlan(folder, index, len(plans), order, stay, missing, plan.settings, plan.pack)
    photos = tuple(photo for photo in plan.photos if photo.key in missing)
    return RewritePlan(folder, index, len(plans), order, stay, photos, plan.settings)


def _digest(kept: pa.Table) -> str:
    """Return the SHA-256 of the kept crops, in order, and their shards."""
    digest = hashlib.sha256()
    for part, crops in zip(kept["part"].to_pylist(), kept["digest"].to_pylist(), strict=True):
        digest.update(f"{part} {crops}\n".encode())
    return digest.hexdigest()


def _examine_settings(run: Config) -> ExamineSettings:
    config = run.prepare
    values = config.model_dump()
    crops = {field.name: values[field.name] for field in fields(CropSettings) if field.name != "seed"}
    filters = {field.name: values[field.name] for field in fields(FilterSettings)}
    compared = config.drop_duplicates or config.drop_evaluation
    hashed, embedded = compared and config.near_bits is not None, compared and config.near_cosine is not None
    data = run.data
    members = MemberSettings(config.max_bytes, data.image_column, data.metadata, data.where, data.ignore)
    return ExamineSettings(CropSettings(seed=run.seed, **crops), FilterSettings(**filters), hashed, members, embedded)


def _newest(context: Context) -> str:
    """Return the name of the note on the newest snapshot with the same examine settings."""
    settings = _examine_settings(context.config)
    # The names of earlier versions: settings of later ones are left out where they have their default.
    crops = {name: value for name, value in vars(settings.crops).items() if name != "downscale_in_decoder" or value}
    names = {"crops": crops, "filters": vars(settings.filters), "hashed": settings.hashed}
    if settings.members != MemberSettings():
        names["members"] = {name: value for name, value in vars(settings.members).items() if name != "ignore" or value}
    if settings.embedded:
        names["embedded"] = True
    return f"{SPEC.name}/newest-{digest_of({'format': FORMAT, **names})[:16]}.json"


def _earlier(context: Context, folder: Folder) -> EarlierSnapshot | None:
    """Return a complete snapshot to copy from, if any. It saves work and does not change the output."""
    note = _newest(context)
    try:
        key = str(json.loads(context.workspace.read(note))["key"]) if context.workspace.exists(note) else ""
        found = context.workspace / f"{SPEC.name}/{key}"
        if not key or found.uri == folder.uri or not found.exists("manifest.json") or not found.exists(TABLE):
            return None
        manifest = json.loads(found.read("manifest.json"))
        facts = manifest["facts"]
        count = facts.get("parts", -(-facts["photos"] // manifest["settings"]["photos_per_shard"]))
        return EarlierSnapshot(found, count)
    except (ValueError, KeyError, TypeError):
        return None
