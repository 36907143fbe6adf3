"""Collect the contents of the report from the results of the steps."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import hfd
from hfd.config import Config
from hfd.io.storage import Folder
from hfd.kinds import EngineKind
from hfd.metrics.protocols import SetProtocol
from hfd.report.content import (
    Extremes,
    FewerImages,
    Gain,
    ImageRow,
    RatePoint,
    Report,
    SummaryRow,
)
from hfd.report.gallery import Kept, Shown, StoredVersion, choose_pictures, show
from hfd.report.page import render
from hfd.report.summarise import Curve
from hfd.report.tables import gain_text, rate_text, training_text
from pipelines.context import Context
from pipelines.evaluate.results import ExamplePictures
from pipelines.evaluate.set_protocols import notes_on_patches, protocol_texts
from pipelines.evaluate.systems import OtherSystems
from pipelines.runs.step import Done, Outcome, Step

MAX_EXAMPLES = 24
"""Pictures in the gallery of the report; those of the lists of the worst and best come on top."""

RULE = (
    "first the worst and best of each system by each metric, place by place, then the others in the order of the set; "
    "hfd report --pictures 1000 shows more"
)
"""The choice of pictures, as the page states it."""

SETTINGS_FILE = "settings.yaml"
"""The settings of an evaluation, as a preset that makes it again."""


@dataclass(frozen=True)
class Trained:
    """A model and its origin; ``autoencoder``: digest and facts of its stage 1."""

    prepared: Done
    autoencoder: Outcome
    model: Done


@dataclass(frozen=True)
class Origin:
    """The evaluate step and the model that it measures, if any."""

    step: Step
    trained: Trained | None


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation. ``rows``: of the images that the report lists; ``others``: systems beside ours, and
    their gaps; ``num_blocks``: see `measure_distances`; ``protocols``: of set metrics, by name; ``num_tiled``: images
    whose stage 2 was sampled in tiles; ``networks``: the engine that ran the model, if there is one; ``labels``: names
    of the systems at their settings, as in ``extremes``."""

    origin: Origin
    num_images: int
    rejects: Sequence[Mapping[str, str]]
    missing_baselines: Sequence[str]
    others: OtherSystems
    num_blocks: int
    protocols: Mapping[str, SetProtocol]
    num_tiled: int
    networks: EngineKind | None
    rows: Sequence[ImageRow]
    summary: Sequence[SummaryRow]
    gains: Sequence[Gain]
    at_our_rate: Sequence[RatePoint]
    fewer: Sequence[FewerImages]
    extremes: Sequence[Extremes]
    labels: Mapping[Curve, str]

    def facts(self) -> dict[str, Any]:
        """The facts of the step's manifest."""
        published = self.others.published.points
        return {
            "images": self.num_images,
            "rejected": len(self.rejects),
            "reasons": dict(sorted(Counter(reject["reason"] for reject in self.rejects).items())),
            "missing_baselines": list(self.missing_baselines),
            **({"gaps": self.others.gaps} if self.others.gaps else {}),
            "blocks": self.num_blocks,
            "protocols": {name: protocol.to_record() for name, protocol in self.protocols.items()},
            "tiled": self.num_tiled,
            **({"engine": self.networks} if self.networks is not None else {}),
            "summary": [row.to_record() for row in self.summary],
            **({"fewer": [one.to_record() for one in self.fewer]} if self.fewer else {}),
            "gains": [asdict(gain) for gain in self.gains],
            "at_our_rate": [asdict(point) for point in self.at_our_rate],
            **({"published": [asdict(point) for point in published]} if published else {}),
        }


def write_report(context: Context, evaluation: Evaluation, folder: Folder) -> None:
    """Write ``report.html`` and ``settings.yaml`` into the step's folder."""
    shown = _gallery(folder, evaluation)
    report = Report(
        title=f"hfd · {context.config.name}",
        summary=tuple(evaluation.summary),
        images=tuple(evaluation.rows),
        examples=tuple(shown.examples),
        facts=tuple(_facts(context.config, evaluation)),
        warnings=tuple(_warnings(evaluation)),
        fewer=tuple(evaluation.fewer),
        published=evaluation.others.published.points,
        pictures_note=shown.note,
        extremes=tuple(evaluation.extremes),
    )
    folder.write(SETTINGS_FILE, _settings_yaml(context.config).encode())
    folder.write("report.html", render(report).encode())


def _settings_yaml(config: Config) -> str:
    """Return the settings that decide the result; those of machines, tracking and the registry are left out."""
    import yaml

    settings = config.model_dump(mode="json", exclude={"cluster", "tracking", "promote", "lease", "workspace"})
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _gallery(folder: Folder, evaluation: Evaluation) -> Shown:
    """Return the kept pictures to show, in the best form in which the page stays below 15 MB."""
    home = folder / "pictures"
    names = sorted({entry.key.split("/")[0] for entry in home.files()}) if folder.exists("pictures") else []
    rows = {(row.image, row.system, row.setting): row for row in evaluation.rows}
    kept = dict(_versions(home / name, rows, evaluation.labels) for name in names)
    gallery = choose_pictures(Kept(kept, dict.fromkeys(kept, 1)), list(kept), evaluation.extremes, MAX_EXAMPLES, RULE)
    (shown,) = show([gallery])
    return shown


def _versions(
    home: Folder, rows: Mapping[tuple[str, str, str], ImageRow], labels: Mapping[Curve, str]
) -> tuple[str, list[StoredVersion]]:
    """Return a kept picture and its versions, the original first."""
    example, versions = ExamplePictures.read(home), []
    for number, curve in enumerate(example.curves):
        row = rows.get((example.image, *curve))
        label, caption = "original", "uncompressed"
        if row is not None:
            label = labels[curve]
            caption = f"{row.setting}: {row.values['bpp']:.3f} bpp, {row.values['psnr']:.2f} dB"
        versions.append(StoredVersion(label, caption, home, f"{number}.webp"))
    return example.image, versions


def _facts(config: Config, evaluation: Evaluation) -> list[tuple[str, str]]:
    origin, trained = evaluation.origin, evaluation.origin.trained
    data = config.evaluate.data or "the validation split"
    square = f", centre squares of {px} px" if (px := config.evaluate.square_px) else ""
    facts = [
        ("Evaluated on", f"{data}: {evaluation.num_images} images{square}, {len(evaluation.rejects)} rejected"),
        *(_training_facts(trained) if trained is not None else [("Model", "none: other systems alone")]),
        ("Set metrics", "\n".join(protocol_texts(evaluation.protocols))),
    ]
    if trained is not None:
        facts += [
            ("Networks", training_text(evaluation.summary)),
            ("Realism against x_hat", "; ".join(map(gain_text, evaluation.gains)) or "not measured"),
            ("Baselines at our rate", "; ".join(map(rate_text, evaluation.at_our_rate)) or "none"),
            (
                "Model",
                f"{trained.model.step.name}/{trained.model.step.key}, autoencoder {trained.autoencoder.digest[:8]}",
            ),
            ("Corpus digest", trained.prepared.step.inputs["corpus"][:16]),
        ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "compressai", "ray", "mlflow", "pillow"))
    facts += [
        ("Evaluation key", origin.step.key),
        ("Settings", json.dumps(config.model_dump(mode="json", exclude={"cluster", "tracking"}), indent=1)),
        ("Versions", f"hfd {hfd.__version__}, Python {platform.python_version()}, {versions}"),
    ]
    if evaluation.networks is not None:
        facts.append(("Engine", "ONNX Runtime" if evaluation.networks == "onnx" else "torch"))
    return [*facts, ("Machine", f"{platform.machine()}, {platform.system()}")]


def _training_facts(trained: Trained) -> list[tuple[str, str]]:
    prepared = trained.prepared.manifest.facts
    reasons = f" {_reasons(prepared['reasons'])}" if prepared["reasons"] else ""
    return [
        ("Training photographs", f"{prepared['photos']}, {prepared['rejected']} rejected{reasons}"),
        ("Source crops", f"{prepared['train_crops']} for training, {prepared['validation_crops']} for validation"),
        ("Stage 1 training", _training(trained.autoencoder.facts)),
        ("Stage 2 training", _training(trained.model.manifest.facts)),
    ]


def _training(facts: Mapping[str, Any]) -> str:
    if "frozen" in facts:
        return f"none: the autoencoder of {facts['frozen']}"
    pace = facts["seconds_per_step"]  # None if the run was killed after the last step
    return f"{facts['steps']} steps" + (f"; {pace} s per step at the end" if pace is not None else "")


def _warnings(evaluation: Evaluation) -> list[str]:
    trained, rejects = evaluation.origin.trained, evaluation.rejects
    warnings = []
    if trained is not None and (prepared := trained.prepared.manifest.facts)["rejected"]:
        warnings.append(
            f"{prepared['rejected']} of {prepared['photos']} training photographs rejected "
            f"{_reasons(prepared['reasons'])}."
        )
    if rejects:
        named = ", ".join(f"{reject['photo']} ({reject['reason']})" for reject in rejects[:10])
        warnings.append(f"{len(rejects)} of {evaluation.num_images} evaluated images rejected: {named}.")
    listed, measured = len({row.image for row in evaluation.rows}), evaluation.num_images - len(rejects)
    if listed < measured:
        warnings.append(f"The table lists {listed} of {measured} images; images.parquet holds all of them.")
    if evaluation.missing_baselines:
        missing = ", ".join(evaluation.missing_baselines)
        warnings.append(f"The installed Pillow cannot encode {missing}: left out.")
    warnings += [f"{line}." for line in (*evaluation.others.lines, *notes_on_patches(evaluation.protocols))]
    return warnings


def _reasons(reasons: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{count} {reason}" for reason, count in reasons.items()) + ")" if reasons else ""
