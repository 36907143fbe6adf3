"""Measure the images of one part without a model: codecs and pictures decoded elsewhere."""

from __future__ import annotations

import hashlib
from typing import Any

from hfd.errors import DataError
from hfd.metrics.original import Original
from hfd.report.summarise import Curve
from pipelines.evaluate.decoded import add_decoded
from pipelines.evaluate.images import PartPlan, digest_of_pictures, write_measured, write_versions
from pipelines.evaluate.measure import Measured, MeasureSettings, measure_others
from pipelines.evaluate.rate_names import SIDES, bpp_name
from pipelines.evaluate.results import PartResult, rejection
from pipelines.runs.parts import StepPart, killed_worker


def evaluate_others(part: StepPart[PartPlan]) -> dict[str, Any]:
    """Measure the images of one part; rows, features and shown pictures go to the step's folder.

    Returns the record of a :class:`PartResult`.
    """
    plan = part.payload
    digest, measured, rejects = hashlib.sha256(), dict[int, Measured](), []
    for position, task in enumerate(plan.tasks):
        if position in plan.killers:
            rejects.append(killed_worker(task.image.key))
            continue
        try:
            name, x = task.load(plan.max_pixels)
            original = Original(x)
            one = measure_others(name, original, plan.settings)
            add_decoded(one, original, task.image.decoded, plan.settings)
        except DataError as error:
            if error.is_outage:
                raise
            rejects.append(rejection(task.image.key, error))
            continue
        measured[task.index] = one
        digest.update(digest_of_pictures(one))
        if task.shown:
            write_versions(part.folder, task, x, one, _shown(one, plan.settings))
    patches = write_measured(part, measured, plan.settings.networks)
    return PartResult(digest.hexdigest(), rejects, patches).to_record()


def _shown(measured: Measured, settings: MeasureSettings) -> list[Curve]:
    """Return one picture of each codec: that near the middle rate."""
    rates = sorted(settings.baseline_bpp)
    name = bpp_name(rates[len(rates) // 2]) if rates else ""
    found: dict[str, Curve] = {}
    for side in SIDES:
        for curve in measured.pictures:
            if curve[1] == f"{side} {name}":
                found.setdefault(curve[0], curve)
    return list(found.values())
