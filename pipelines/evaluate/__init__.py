"""Measure real files decoded from their bytes: tables, distances and the report."""

from dataclasses import replace

from pipelines.spec import MODEL, StepSpec

SPEC = StepSpec(
    name="evaluate",
    help="Measure real files beside JPEG, WebP and AVIF, and write the report.",
    module="pipelines.evaluate.step",
    needs=("prepare", "train-autoencoder", MODEL),
    extra="pipeline",
)

ALONE = replace(SPEC, needs=())
"""The step of an evaluation without a model (``evaluate.model=none``)."""
