"""Photographs to shards of source crops: check, filter, de-duplicate, cut."""

from pipelines.spec import StepSpec

SPEC = StepSpec(
    name="prepare",
    help="Read, check and crop photographs into shards of source crops.",
    module="pipelines.prepare.step",
)
