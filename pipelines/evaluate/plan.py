"""The images of an evaluation, and their division into parts."""

from __future__ import annotations

from collections.abc import Sequence

from hfd.codec.container import DEFAULT_RATE
from hfd.data.shards import list_row_groups
from hfd.errors import DataError
from pipelines.context import Context
from pipelines.evaluate.decoded import DecodedPictures
from pipelines.evaluate.images import CorpusPhoto, EvaluatedImage, ImageTask, PartPlan, ValidationCrop
from pipelines.evaluate.measure import MeasureSettings, backbone_files, vgg16_file
from pipelines.evaluate.systems import programs_of
from pipelines.runs.step import Done


def images_of(
    context: Context, prepared: Done | None, decoded: DecodedPictures = DecodedPictures()
) -> list[EvaluatedImage]:
    """Return the images to evaluate, in order. Raises :class:`DataError` if there are none."""
    corpus, limit = context.pictures, context.config.evaluate.max_images
    if corpus is not None:
        return [CorpusPhoto(photo, decoded.of_original.get(photo.key, ())) for photo in corpus.photos[:limit]]
    assert prepared is not None  # an evaluation without a model has pictures
    groups = list_row_groups(prepared.folder, "validation")
    crops: list[EvaluatedImage] = [
        ValidationCrop(prepared.folder, group, row) for group in groups for row in range(group.num_rows)
    ]
    if not crops:
        raise DataError(
            "evaluate.data: missing, and the validation split is empty. Give a folder of pictures, "
            "more photographs, or a larger prepare.validation_share",
            reason="empty",
        )
    return crops[:limit]


def measure_settings(context: Context, device: str = "cpu") -> MeasureSettings:
    """Return the settings of the measurements; networks of set metrics run on ``device``."""
    config = context.config.evaluate
    return MeasureSettings(
        config.samplers,
        config.patch_px,
        config.baselines,
        config.baseline_rates,
        config.tile_pixels,
        config.batch_pixels,
        programs_of(config.external),
        vgg16_file(config),
        config.absolute_bpp,
        backbone_files(config),
        device,
        DEFAULT_RATE if config.rate is None else config.rate,
        config.refine,
    )


def plan_parts(context: Context, images: Sequence[EvaluatedImage], device: str = "cpu") -> list[PartPlan]:
    """Divide the images into parts, which depend only on their number and are the same on every cluster."""
    config, settings = context.config.evaluate, measure_settings(context, device)
    size = max(1, min(64, len(images) // 128))
    stride = max(1, len(images) // max(1, config.num_examples))
    tasks = [
        ImageTask(index, image, index % stride == 0 and index // stride < config.num_examples, config.square_px)
        for index, image in enumerate(images)
    ]
    return [
        PartPlan(tuple(tasks[start : start + size]), settings, context.config.prepare.max_pixels)
        for start in range(0, len(tasks), size)
    ]
