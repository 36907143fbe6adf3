"""What a finished evaluation left of our own sample, by image: the one place that reads an evaluation's files."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from hfd.codec.codec import Codec
from hfd.errors import BitstreamError, DataError
from hfd.metrics.bootstrap import MIN_IMAGES, MIN_PATCHES
from hfd.metrics.frechet import OfCounts, frechet_of_counts, kernel_of_counts
from hfd.storage import Folder
from pipelines.gate import Drawn, Sampled

DISTANCES = {"FD-EffNet": frechet_of_counts, "KD-EffNet": kernel_of_counts}

_PART = re.compile(r"parts/(\d{5}-of-\d{5})\.json$")


def read_sample(folder: Folder, draws: int) -> Sampled:
    """The sample of the first of ``evaluate.samplers``, whatever its label.

    Labels are not compared: two models may differ in the number of steps that is their default. ``draws``: of the
    bootstrap over images, ``evaluate.bootstrap_draws``.
    """
    rows = pq.read_table(io.BytesIO(folder.read("images.parquet"))).to_pylist()
    samples = [row for row in rows if row["system"] == "sample"]
    if not samples:
        raise DataError(f"{folder.uri}: got no samples, expected a model with a decoder")
    chosen = [row for row in samples if row["setting"] == samples[0]["setting"]]
    return Sampled(
        bpp={row["image"]: row["bpp"] for row in chosen},
        psnr={row["image"]: row["psnr"] for row in chosen},
        distances=_distances(folder, samples[0]["setting"], sorted(row["image"] for row in chosen), draws),
    )


def _distances(folder: Folder, setting: str, images: list[str], draws: int) -> dict[str, Drawn]:
    """Both distances of a sample from the patch features that the evaluation kept; none with one image or patch."""
    originals: dict[str, npt.NDArray[np.float32]] = {}
    decoded: dict[str, npt.NDArray[np.float32]] = {}
    for part in sorted(match[1] for entry in folder.files() if (match := _PART.match(entry.key))):
        names = json.loads(folder.read(f"parts/{part}.json"))["features"]
        arrays = np.load(io.BytesIO(folder.read(f"features/{part}.npz")), allow_pickle=False)
        for number, name in enumerate(names):
            image, *curve = name.rsplit("|", 2)
            if curve[0] == "original":
                originals[image] = arrays[str(number)]
            elif curve == ["sample", setting]:
                decoded[image] = arrays[str(number)]
    patches = [len(originals[image]) for image in images]
    if np.count_nonzero(patches) < MIN_IMAGES:
        return {}
    a, b = (np.concatenate([features[image] for image in images]) for features in (originals, decoded))
    return {name: _drawn(of_counts(a, b), patches, draws) for name, of_counts in DISTANCES.items()}


def _drawn(distance: OfCounts, patches: list[int], draws: int) -> Drawn:
    """As :func:`hfd.metrics.bootstrap.paired_differences` draws: by ``patches`` and a seed alone."""
    rng, num = np.random.default_rng(0), len(patches)
    values: list[float] = []
    while len(values) < draws:
        counts = np.bincount(rng.integers(0, num, num), minlength=num)
        if counts @ patches >= MIN_PATCHES:
            values.append(distance(np.repeat(counts, patches).astype(np.float64)))
    return Drawn(distance(np.ones(sum(patches))), tuple(values))


def first_file_decodes(evaluation: Folder, image: str, model: Folder) -> bool:
    """Whether the file that was measured for ``image`` decodes with the weights in ``model``."""
    data = evaluation.read(f"files/{image}.hfd")
    try:
        return bool(Codec.load(model).reconstruct(data).size)
    except BitstreamError:
        return False
