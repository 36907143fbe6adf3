"""The report of an evaluation: what the page is told, put together from what the steps left."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import hfd
from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from hfd.report.content import Example, Gain, ImageRow, RatePoint, Report, SummaryRow, Version, system_label
from hfd.report.page import render
from hfd.report.tables import gain_text, rate_text
from pipelines.context import Context
from pipelines.runs.step import Done, Step


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and on what."""

    step: Step
    prepared: Done
    autoencoder: Done
    model: Done
    rows: Sequence[ImageRow]
    summary: Sequence[SummaryRow]
    rejects: Sequence[dict[str, str]]
    facts: dict[str, Any]


def write_report(context: Context, evaluation: Evaluation, folder: Folder) -> None:
    """Write ``report.html`` into the step's folder."""
    report = Report(
        title=f"hfd · {context.config.name}",
        summary=tuple(evaluation.summary),
        images=tuple(evaluation.rows),
        examples=tuple(_examples(folder, evaluation.rows)),
        facts=tuple(_facts(context, evaluation)),
        warnings=tuple(_warnings(evaluation)),
    )
    folder.write("report.html", render(report).encode())


def _examples(folder: Folder, rows: Sequence[ImageRow]) -> list[Example]:
    by_curve = {(row.image, row.system, row.setting): row for row in rows}
    if not folder.exists("pictures"):
        return []
    kept = (folder / "pictures").files()
    prefixes = sorted(f"pictures/{entry.key.rpartition('/')[0]}" for entry in kept if entry.key.endswith("/names.txt"))
    examples = []
    for prefix in prefixes:
        name, *curves = folder.read(f"{prefix}/names.txt").decode().splitlines()
        versions = []
        for number, curve in enumerate(curves):
            system, _, setting = curve.partition("|")
            x = load_rgb(folder.read(f"{prefix}/{number}.webp"), name=f"{prefix}/{number}.webp")
            row = by_curve.get((name, system, setting))
            caption = f"{row.values['bpp']:.3f} bpp, {row.values['psnr']:.2f} dB" if row is not None else "as it was"
            versions.append(Version(label="original" if row is None else system_label(system), caption=caption, x=x))
        examples.append(Example(name, tuple(versions)))
    return examples


def _facts(context: Context, evaluation: Evaluation) -> list[tuple[str, str]]:
    prepared, model, facts = evaluation.prepared.manifest.facts, evaluation.model, evaluation.facts
    where = context.config.evaluate.data or "the validation split"
    config = context.config
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "compressai", "ray", "mlflow", "pillow"))
    return [
        ("Evaluated on", f"{where}: {facts['images']} images, {facts['rejected']} rejected"),
        (
            "Training photographs",
            f"{prepared['photos']}, {prepared['rejected']} rejected {_reasons(prepared['reasons'])}".strip(),
        ),
        ("Source crops", f"{prepared['train_crops']} to train on, {prepared['validation_crops']} held out"),
        ("Stage 1 training", _training(evaluation.autoencoder)),
        ("Stage 2 training", _training(model)),
        (
            "Distances",
            f"EfficientNet-Lite0 features of {config.evaluate.patch_px} px patches; not comparable with FID"
            + (f"; over {facts['blocks']} blocks of images, as are the intervals" if facts["blocks"] else ""),
        ),
        ("Realism against x_hat", "; ".join(gain_text(Gain(**gain)) for gain in facts["gains"]) or "not measured"),
        ("Baselines at our rate", "; ".join(rate_text(RatePoint(**point)) for point in facts["at_our_rate"]) or "none"),
        ("Model", f"{model.step.name}/{model.step.key}, autoencoder {evaluation.autoencoder.digest[:8]}"),
        ("Corpus digest", evaluation.prepared.step.inputs["corpus"][:16]),
        ("Evaluation key", evaluation.step.key),
        ("Settings", json.dumps(config.model_dump(mode="json", exclude={"cluster", "tracking"}), indent=1)),
        ("Versions", f"hfd {hfd.__version__}, Python {platform.python_version()}, {versions}"),
        ("Machine", f"{platform.machine()}, {platform.system()}"),
    ]


def _training(done: Done) -> str:
    facts = done.manifest.facts
    if "frozen" in facts:
        return f"none: the autoencoder of {facts['frozen']}"
    pace = facts["seconds_per_step"]  # None: a run that was killed after the last step
    return f"{facts['steps']} steps" + (f" of {pace} s on the last stretch" if pace is not None else "")


def _warnings(evaluation: Evaluation) -> list[str]:
    prepared, facts = evaluation.prepared.manifest.facts, evaluation.facts
    warnings = []
    if prepared["rejected"]:
        warnings.append(
            f"{prepared['rejected']} of {prepared['photos']} training photographs rejected "
            f"{_reasons(prepared['reasons'])}."
        )
    if facts["rejected"]:
        named = ", ".join(f"{reject['photo']} ({reject['reason']})" for reject in evaluation.rejects[:10])
        warnings.append(f"{facts['rejected']} of {facts['images']} evaluated images rejected: {named}.")
    listed, measured = len({row.image for row in evaluation.rows}), facts["images"] - facts["rejected"]
    if listed < measured:
        warnings.append(f"The table lists {listed} of {measured} images; images.parquet holds all of them.")
    if facts["missing_baselines"]:
        warnings.append(f"This Pillow cannot encode {', '.join(facts['missing_baselines'])}: left out.")
    return warnings


def _reasons(reasons: dict[str, int]) -> str:
    return "(" + ", ".join(f"{count} {reason}" for reason, count in reasons.items()) + ")" if reasons else ""
