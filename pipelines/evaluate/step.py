"""Step evaluate: measure decoded files beside JPEG, WebP and AVIF; write tables and a report."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hfd.baselines.pillow_codecs import available_baselines
from hfd.codec.engines import chosen_engine
from hfd.errors import DataError
from hfd.io.model_folders import resolve_model
from hfd.io.storage import Folder
from hfd.kinds import EngineKind
from hfd.metrics.backbones import BackboneName
from hfd.metrics.read_backbone import check_backbone
from hfd.perceptual.lineage import networks_in_training
from hfd.perceptual.vgg16 import read_vgg16
from hfd.report.content import ImageRow, over_all_images
from hfd.report.summarise import (
    baselines_at_our_rate,
    gains_over_x_hat,
    summarise,
)
from hfd.report.tables import fewer_text, gain_text, published_text, rate_text, summary_text, training_text
from pipelines.context import Context, PlannedStep
from pipelines.engine.devices import map_device
from pipelines.evaluate import SPEC
from pipelines.evaluate.alone import evaluate_others
from pipelines.evaluate.distances import FeatureFile, feature_name, measure_distances
from pipelines.evaluate.images import INDEX, EvaluatedImage, ImageTask, PartPlan, evaluate_part, parquet_bytes
from pipelines.evaluate.large_images import measure_large, plan_large, plan_large_units, sample_unit
from pipelines.evaluate.measure import backbone_files, load_codec, vgg16_file
from pipelines.evaluate.plan import images_of, measure_settings, plan_parts
from pipelines.evaluate.report import Evaluation, Origin, Trained, write_report
from pipelines.evaluate.results import PartResult, tracked_metrics
from pipelines.evaluate.rows import Part, all_rows, curve_labels, curves_of, extremes_of_table
from pipelines.evaluate.set_protocols import notes_on_patches, protocol_texts, set_protocols
from pipelines.evaluate.subsets import fewer_images, subsets_of
from pipelines.evaluate.systems import OtherSystems, gap_rows, other_systems
from pipelines.runs.parts import digest_of_parts, run_parts
from pipelines.runs.step import Done, Outcome, Step, point_latest
from pipelines.tracking import StepRun

LISTED_IMAGES = 1000
"""Number of first images that the report lists, beside those it shows; ``images.parquet`` holds all."""


def plan(
    context: Context, prepared: Done | None = None, autoencoder: Done | None = None, model: Done | None = None
) -> PlannedStep:
    """Plan the step; without a model it has no earlier steps."""
    if prepared is None or autoencoder is None or model is None:
        return plan_with(context, None)
    return plan_with(context, Trained(prepared, autoencoder.outcome, model))


def plan_with(context: Context, trained: Trained | None) -> PlannedStep:
    """Plan the step of a model, or without one."""
    corpus = context.pictures
    settings = {
        **context.config.evaluate.content(exclude={"data", "decoded", "curves"}),
        "max_pixels": context.config.prepare.max_pixels,
    }
    source = {} if trained is None else {"model": trained.model.digest}
    if corpus is not None:
        source["images"] = corpus.digest
    elif trained is not None:
        source["prepare"] = trained.prepared.digest
    others = other_systems(context.config.evaluate, corpus)
    if others.missing:
        # Once the programs are there, another evaluation fills the gap.
        settings["absent"] = sorted(others.missing)
    if context.config.evaluate.decoded:
        source["decoded"] = others.decoded.digest
    if others.published.digest:
        source["curves"] = others.published.digest
    step = Step(SPEC.name, context.workspace, settings, source)

    def work(folder: Folder, record: StepRun) -> Outcome:
        for line in others.lines:
            context.display.say(line)
        images = images_of(context, trained.prepared if trained is not None else None, others.decoded)
        if (file := vgg16_file(context.config.evaluate)) is not None:
            read_vgg16(file)  # raises before any picture is coded
        for weights in backbone_files(context.config.evaluate):
            check_backbone(weights)
        measured = _measure(context, images, trained.model.folder if trained is not None else None, folder)
        _check_enough(context, len(images), measured.rejects)
        evaluation = _summarise(context, Origin(step, trained), measured, others, folder)
        write_report(context, evaluation, folder)
        apart = [row for one in evaluation.fewer for row in one.rows]
        for row in evaluation.summary:
            record.log_metrics(0, tracked_metrics(row, evaluation.protocols, lacks_images=row in apart))
        for name in ("report.html", "images.parquet", "summary.txt"):
            record.log_artifact(folder.read(name), name=name)
        return Outcome(measured.digest, evaluation.facts())

    return PlannedStep(
        context, step, work, lambda _: point_latest(context.workspace, report=f"{step.name}/{step.key}/report.html")
    )


def _summarise(
    context: Context, origin: Origin, measured: AllMeasured, others: OtherSystems, folder: Folder
) -> Evaluation:
    """Write ``images.parquet`` and ``summary.txt``, and compute the other values of the report."""
    config = context.config.evaluate
    table = all_rows(measured.parts)
    folder.write("images.parquet", parquet_bytes(table.drop_columns([INDEX])))
    curves = curves_of(table)
    subsets = subsets_of(table, curves)
    distances = measure_distances(
        context.engine,
        folder,
        {
            network: [
                FeatureFile(part.folder, feature_name(part.index, part.count, network)) for part in measured.parts
            ]
            for network in measure_settings(context).networks
        },
        [(rows.system, rows.setting) for rows in curves],
        num_patches=measured.patches,
        exact_patches=config.exact_patches,
        draws=config.bootstrap_draws,
        shared=[subset.shared(curve) for subset in subsets for curve in subset.beside],
    )
    model = origin.trained.model.folder if origin.trained is not None else None
    trained_on = networks_in_training(json.loads(model.read("decoder/config.json"))) if model is not None else ()
    summary = summarise(curves, distances.of_curves, trained_on)
    by_curve = {(row.system, row.setting): row for row in summary}
    fewer = [fewer_images(table, subset, by_curve, distances.shared) for subset in subsets]
    summary += gap_rows(others.gaps, summary)
    gains, points = gains_over_x_hat(distances.of_curves), baselines_at_our_rate(summary)
    protocols = set_protocols(config, measured.patches, distances.num_blocks)
    lines = [summary_text(over_all_images(summary, fewer)), *map(fewer_text, fewer)]
    lines += [training_text(summary)] if model is not None else []
    lines += [*map(gain_text, gains), *map(rate_text, points)]
    lines += [*map(published_text, others.published.points), *others.lines]
    lines += [*protocol_texts(protocols), *notes_on_patches(protocols), ""]
    folder.write("summary.txt", "\n".join(lines).encode())
    return Evaluation(
        origin,
        num_images=len(measured.tasks),
        rejects=measured.rejects,
        missing_baselines=[name for name in available_baselines()[1] if name in config.baselines],
        others=others,
        num_blocks=distances.num_blocks["efficientnet"],
        protocols=protocols,
        num_tiled=measured.num_tiled,
        networks=measured.networks,
        rows=_listed(table, {task.index for task in measured.tasks if task.shown}),
        summary=summary,
        gains=gains,
        at_our_rate=points,
        fewer=fewer,
        extremes=extremes_of_table(table, list(by_curve)),
        labels=curve_labels(list(by_curve)),
    )


@dataclass(frozen=True)
class AllMeasured:
    """Results of all parts; the tables are in files. ``patches``: of the originals, by network of set metrics;
    ``networks``: the engine that ran the model; None without one."""

    tasks: Sequence[ImageTask]
    parts: Sequence[Part]
    rejects: Sequence[dict[str, str]]
    patches: Mapping[BackboneName, int]
    num_tiled: int
    networks: EngineKind | None
    digest: str


def _measure(context: Context, images: Sequence[EvaluatedImage], model: Folder | None, folder: Folder) -> AllMeasured:
    """Measure every image on all workers: in parts, and large ones in tiles."""
    if model is None:
        plans = plan_parts(context, images)
        with context.display.bar("evaluate", "parts") as progress:
            records = run_parts(context.engine, folder, plans, evaluate_others, progress)
        return _all_measured(plans, folder, records)
    engine = context.engine.with_gpus()
    device = map_device(context.config.cluster)
    plans = plan_parts(context, images, device)
    # Chosen here, so that all workers have the same.
    networks = chosen_engine(resolve_model(model), device, context.config.evaluate.engine)
    load = functools.partial(load_codec, model.uri, device, networks)
    with context.display.bar("evaluate", "parts") as progress:
        records = run_parts(engine, folder, plans, evaluate_part, progress, load=load)
    parts: list[Part] = []
    large = [one for record in records for one in PartResult.from_record(record).large]
    if large:
        units = plan_large_units(folder, large, plans[0].settings)
        with context.display.bar("evaluate tiles", "tiles") as progress:
            sampled = run_parts(engine, folder / "tiles", units, sample_unit, progress, load=load)
        large_plans = plan_large([task for plan in plans for task in plan.tasks], units, sampled, plans[0])
        with context.display.bar("evaluate large", "pictures") as progress:
            records += run_parts(context.engine, folder / "large", large_plans, measure_large, progress)
        parts = [Part(folder / "large", index, len(large_plans)) for index in range(len(large_plans))]
        folder.delete("pixels")
    return _all_measured(plans, folder, records, parts, len(large), networks)


def _all_measured(
    plans: Sequence[PartPlan],
    folder: Folder,
    records: Sequence[dict[str, Any]],
    large: Sequence[Part] = (),
    num_tiled: int = 0,
    networks: EngineKind | None = None,
) -> AllMeasured:
    parts = [*(Part(folder, index, len(plans)) for index in range(len(plans))), *large]
    tasks = [task for plan in plans for task in plan.tasks]
    results = [PartResult.from_record(record) for record in records]
    rejects = [reject for result in results for reject in result.rejects]
    patches: Counter[BackboneName] = Counter()
    for result in results:
        patches.update(result.patches)
    return AllMeasured(tasks, parts, rejects, patches, num_tiled, networks, digest_of_parts(records))


def _listed(table: pa.Table, shown: set[int]) -> list[ImageRow]:
    """Return the rows that the report lists."""
    first = pc.unique(table[INDEX]).slice(0, LISTED_IMAGES)
    wanted = pa.array(sorted(shown | set(first.to_pylist())), pa.int64())
    rows = table.filter(pc.is_in(table[INDEX], wanted)).drop_columns([INDEX])
    return [ImageRow.from_record(row) for row in rows.to_pylist()]


def _check_enough(context: Context, num_images: int, rejects: Sequence[dict[str, str]]) -> None:
    limit = context.config.prepare.max_reject_share
    if len(rejects) > limit * num_images or len(rejects) == num_images:
        named = "; ".join(reject["message"] for reject in rejects[:3])
        raise DataError(
            f"evaluate.data: {len(rejects)} of {num_images} pictures rejected ({named}), expected at most {limit:.0%}. "
            "Replace them, or raise prepare.max_reject_share",
            reason="too-many-rejects",
        )
