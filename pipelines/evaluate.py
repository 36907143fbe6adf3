"""Step 5: real files, decoded from their bytes, measured beside JPEG, WebP and AVIF; tables and a report."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hfd.baselines.pillow_codecs import available_baselines
from hfd.data.shards import RowGroup, list_row_groups, read_row_group
from hfd.errors import DataError
from hfd.images import RgbArray, encode_webp_lossless, load_rgb
from hfd.report.content import ImageRow, SummaryRow
from hfd.report.summarise import baselines_at_our_rate, gains_over_x_hat, summarise
from hfd.report.tables import gain_text, rate_text, summary_text
from hfd.storage import Folder
from pipelines.cluster import map_device
from pipelines.context import Context
from pipelines.corpus import Corpus, Photo
from pipelines.measure import Curve, MeasureSettings, load_codec, measure, setting_label
from pipelines.parts import digest_of_parts, part_name, run_parts
from pipelines.steps import Done, Outcome, Step, point_latest
from pipelines.tracking import StepRun
from pipelines.write_report import Evaluation, write_report

NAME = "evaluate"

SHOWN_PX = 1024
"""The report shows this much of a side at most: the middle of a larger picture."""

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("image", "system", "setting")]
    + [(name, pa.int64()) for name in ("width", "height", "num_bytes")]
    + [
        (name, pa.float64())
        for name in ("bpp", "bpp_est", "psnr", "ms_ssim", "top_octave_energy", "encode_s", "decode_s")
    ]
)


@dataclass(frozen=True)
class HeldOut:
    """A validation crop in a shard."""

    crops: Folder
    group: RowGroup
    row: int

    @property
    def key(self) -> str:
        return f"{self.group.shard}#{self.group.index}.{self.row}"

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        del max_pixels
        row = read_row_group(self.crops, self.group)[self.row]
        return row.id, row.pictures["x"]


@dataclass(frozen=True)
class Listed:
    """A picture of a folder or prefix."""

    photo: Photo

    @property
    def key(self) -> str:
        return self.photo.key

    def load(self, max_pixels: int) -> tuple[str, RgbArray]:
        return self.photo.key, load_rgb(self.photo.read(), name=self.photo.key, max_pixels=max_pixels)


@dataclass(frozen=True)
class PartPlan:
    """The images of one part, and whether each is to be shown in the report."""

    images: tuple[HeldOut | Listed, ...]
    shown: tuple[bool, ...]
    model: Folder
    settings: MeasureSettings
    max_pixels: int
    device: str


def plan(context: Context, prepared: Done, model: Done, corpus: Corpus | None) -> Step:
    settings = {
        **context.config.evaluate.model_dump(mode="json", exclude={"data"}),
        "max_pixels": context.config.prepare.max_pixels,
    }
    images = {"images": corpus.digest} if corpus is not None else {"prepare": prepared.digest}
    return Step(NAME, context.workspace, settings, {"model": model.digest, **images})


def run(context: Context, prepared: Done, autoencoder: Done, model: Done, corpus: Corpus | None) -> Done:
    """``corpus``: the pictures to evaluate on; None: the validation split."""
    step = plan(context, prepared, model, corpus)
    images = images_of(context, prepared, corpus)
    done = context.do(
        step, lambda folder, run: _evaluate(context, step, (prepared, autoencoder, model), images, folder, run)
    )
    point_latest(context.workspace, report=f"{step.name}/{step.key}/report.html")
    return done


def _evaluate(
    context: Context,
    step: Step,
    upstream: tuple[Done, Done, Done],
    images: Sequence[HeldOut | Listed],
    folder: Folder,
    record: StepRun,
) -> Outcome:
    prepared, autoencoder, model = upstream
    plans = _parts(context, images, model.folder)
    with context.display.bar("evaluate", "parts") as progress:
        results = run_parts(context.engine.with_gpus(), folder, plans, evaluate_part, progress)
    rejects = [reject for result in results for reject in result["rejects"]]
    _check_enough(context, len(images), rejects)
    rows, originals, decoded = _gather(folder, len(plans))
    summary = summarise(rows, originals, decoded)
    _write_table(folder, "images.parquet", rows)
    gains = gains_over_x_hat(originals, decoded, context.config.evaluate.bootstrap_draws)
    points = baselines_at_our_rate(summary)
    lines = [summary_text(summary), *map(gain_text, gains), *map(rate_text, points), ""]
    folder.write("summary.txt", "\n".join(lines).encode())
    missing = [name for name in available_baselines()[1] if name in context.config.evaluate.baselines]
    facts: dict[str, Any] = {
        "images": len(images),
        "rejected": len(rejects),
        "reasons": dict(sorted(Counter(reject["reason"] for reject in rejects).items())),
        "missing_baselines": missing,
        "summary": [asdict(row) for row in summary],
        "gains": [asdict(gain) for gain in gains],
        "at_our_rate": [asdict(point) for point in points],
    }
    write_report(context, Evaluation(step, prepared, autoencoder, model, rows, summary, rejects, facts), folder)
    for row in summary:
        record.log_metrics(0, tracked_metrics(row))
    for name in ("report.html", "images.parquet", "summary.txt"):
        record.log_artifact(folder.read(name), name=name)
    return Outcome(digest_of_parts(results), facts)


def tracked_metrics(row: SummaryRow) -> dict[str, float]:
    """The finite numbers of ``row`` under names that MLflow takes: ``sample 50 steps grain/psnr``."""
    line = re.sub(r"[^\w\-. :/]", "", f"{row.system} {row.setting}").strip()
    values = {key: value for key, value in asdict(row).items() if isinstance(value, float) and math.isfinite(value)}
    return {f"{line}/{key}": value for key, value in values.items()}


def images_of(context: Context, prepared: Done, corpus: Corpus | None) -> list[HeldOut | Listed]:
    """What is evaluated on, in order. Raises :class:`DataError` where there is nothing."""
    limit = context.config.evaluate.max_images
    if corpus is not None:
        return [Listed(photo) for photo in corpus.photos[:limit]]
    groups = list_row_groups(prepared.folder, "validation")
    held_out: list[HeldOut | Listed] = [
        HeldOut(prepared.folder, group, row) for group in groups for row in range(group.num_rows)
    ]
    if not held_out:
        raise DataError(
            "evaluate.data: missing, and the validation split is empty. Give a folder of pictures, "
            "more photographs, or a larger prepare.validation_share",
            reason="empty",
        )
    return held_out[:limit]


def _parts(context: Context, images: Sequence[HeldOut | Listed], model: Folder) -> list[PartPlan]:
    config = context.config.evaluate
    settings = MeasureSettings(config.samplers, config.patch_px, config.baselines, config.baseline_rates)
    # A function of the number of images alone, so that a part means the same on every cluster.
    size = max(1, min(64, len(images) // 128))
    stride = max(1, len(images) // max(1, config.num_examples))
    shown = [index % stride == 0 and index // stride < config.num_examples for index in range(len(images))]
    return [
        PartPlan(
            tuple(images[start : start + size]),
            tuple(shown[start : start + size]),
            model,
            settings,
            context.config.prepare.max_pixels,
            map_device(context.config.cluster),
        )
        for start in range(0, len(images), size)
    ]


def evaluate_part(index: int, count: int, folder: Folder, plan: PartPlan) -> dict[str, Any]:
    """Measure the images of one part; rows, features, files and shown pictures go to the step's folder."""
    codec = load_codec(plan.model.uri, plan.device)
    rows: list[ImageRow] = []
    rejects: list[dict[str, str]] = []
    features: dict[str, npt.NDArray[np.float32]] = {}
    digest = hashlib.sha256()
    for image, shown in zip(plan.images, plan.shown, strict=True):
        try:
            name, x = image.load(plan.max_pixels)
            measured = measure(codec, name, x, plan.settings, functools.partial(_keep, folder, f"files/{name}.hfd"))
        except DataError as error:
            if error.is_outage:
                raise
            rejects.append({"photo": image.key, "reason": error.reason, "message": str(error)})
            continue
        rows += measured.rows
        features[f"{name}|original|"] = measured.original
        digest.update(measured.data)
        for curve, picture in measured.pictures.items():
            features[f"{name}|{curve[0]}|{curve[1]}"] = measured.features[curve]
            digest.update(picture.data)
        if shown:
            _keep_pictures(folder, f"pictures/{index:05d}-{len(rows):03d}", name, x, measured.pictures)
    buffer = io.BytesIO()
    np.savez(buffer, **{str(i): values for i, values in enumerate(features.values())})
    folder.write(f"features/{index:05d}-of-{count:05d}.npz", buffer.getvalue())
    _write_table(folder, f"rows/{index:05d}-of-{count:05d}.parquet", rows)
    return {"digest": digest.hexdigest(), "rejects": rejects, "features": list(features)}


def _keep(folder: Folder, name: str, data: bytes) -> bytes:
    folder.write(name, data)
    return folder.read(name)


def _keep_pictures(folder: Folder, prefix: str, name: str, x: RgbArray, pictures: dict[Curve, RgbArray]) -> None:
    """The versions that the report shows: original, both stages, and AVIF near our rate; large ones cut."""
    wanted: list[tuple[Curve, RgbArray]] = [(("original", ""), x)]
    wanted += [(curve, pictures[curve]) for curve in pictures if curve[0] in ("autoencoder", "sample")]
    near = [curve for side in ("at most", "at least") if (curve := ("avif", setting_label(side, 1.0))) in pictures]
    wanted += [(curve, pictures[curve]) for curve in near[:1]]
    names = "".join(f"{system}|{setting}\n" for (system, setting), _ in wanted)
    for number, (_, picture) in enumerate(wanted):
        folder.write(f"{prefix}/{number}.webp", encode_webp_lossless(_middle(picture)))
    folder.write(f"{prefix}/names.txt", f"{name}\n{names}".encode())


def _middle(x: RgbArray) -> RgbArray:
    top, left = (max(0, (side - SHOWN_PX) // 2) for side in x.shape[:2])
    return x[top : top + SHOWN_PX, left : left + SHOWN_PX]


def _gather(
    folder: Folder, count: int
) -> tuple[list[ImageRow], dict[str, npt.NDArray[np.float32]], dict[Curve, dict[str, npt.NDArray[np.float32]]]]:
    rows: list[ImageRow] = []
    originals: dict[str, npt.NDArray[np.float32]] = {}
    decoded: dict[Curve, dict[str, npt.NDArray[np.float32]]] = {}
    for index in range(count):
        table = pq.read_table(io.BytesIO(folder.read(f"rows/{index:05d}-of-{count:05d}.parquet")))
        rows += [ImageRow(**row) for row in table.to_pylist()]
        names = json.loads(folder.read(part_name(index, count)))["features"]
        arrays = np.load(io.BytesIO(folder.read(f"features/{index:05d}-of-{count:05d}.npz")), allow_pickle=False)
        for number, full_name in enumerate(names):
            image, system, setting = full_name.rsplit("|", 2)
            if system == "original":
                originals[image] = arrays[str(number)]
            else:
                decoded.setdefault((system, setting), {})[image] = arrays[str(number)]
    return rows, originals, decoded


def _write_table(folder: Folder, name: str, rows: Sequence[ImageRow]) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA), buffer)
    folder.write(name, buffer.getvalue())


def _check_enough(context: Context, num_images: int, rejects: list[dict[str, str]]) -> None:
    limit = context.config.prepare.max_reject_share
    if len(rejects) > limit * num_images or len(rejects) == num_images:
        named = "; ".join(reject["message"] for reject in rejects[:3])
        raise DataError(
            f"evaluate.data: {len(rejects)} of {num_images} pictures rejected ({named}), expected at most {limit:.0%}. "
            "Replace them, or raise prepare.max_reject_share",
            reason="too-many-rejects",
        )
