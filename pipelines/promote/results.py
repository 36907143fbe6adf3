"""Read the results of our own sample from the files of a finished evaluation."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow.parquet as pq

from hfd.codec.codec import Codec
from hfd.errors import BitstreamError, DataError
from hfd.io.storage import Folder
from hfd.metrics.bootstrap import MIN_IMAGES
from hfd.metrics.set_distances import SET_DISTANCES
from hfd.metrics.table import METRICS
from pipelines.evaluate.distances import read_distances
from pipelines.promote.gate import Sampled


def read_sample(folder: Folder) -> Sampled:
    """Read the figures of the sample of the first of ``evaluate.samplers``, with any label.

    Labels are not compared: two models may differ in their default number of steps.
    """
    rows = pq.read_table(io.BytesIO(folder.read("images.parquet"))).to_pylist()
    curves = list(dict.fromkeys((row["system"], row["setting"]) for row in rows))
    sample = next((curve for curve in curves if curve[0] == "sample"), None)
    if sample is None:
        raise DataError(f"{folder.uri}: got no samples, expected a model with a decoder")
    ours = [row for row in rows if (row["system"], row["setting"]) == sample]
    return Sampled(
        bpp={row["image"]: row["bpp"] for row in ours},
        psnr={row["image"]: row["psnr"] for row in ours},
        distances=read_distances(folder, curves)[sample].drawn,
    )


def check_measured(sampled: Sampled, names: Sequence[str], evaluation: Folder) -> None:
    """Raise :class:`DataError` if a distance of a published protocol among ``names`` has no value and draws.

    Those of EfficientNet have a criterion that fails.
    """
    for one in SET_DISTANCES:
        label = METRICS[one.name].label
        if label in names and label not in sampled.distances and one.patch_px is not None:
            raise DataError(
                f"promote.distances: got no {label} in {evaluation.uri}, expected one over {MIN_IMAGES} pictures and "
                f"{one.least_patches} patches of {one.patch_px} px or more. Use more or larger pictures in "
                f"evaluate.data, or remove {label}"
            )


def first_file_decodes(evaluation: Folder, image: str, model: Folder) -> bool:
    """Return True if the file measured for ``image`` decodes with the weights in ``model``."""
    data = evaluation.read(f"files/{image}.hfd")
    try:
        return bool(Codec.load(model).reconstruct(data).size)
    except BitstreamError:
        return False
