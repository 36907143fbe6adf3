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
from hfd.storage import Folder
from pipelines.gate import Sampled

_PART = re.compile(r"parts/(\d{5}-of-\d{5})\.json$")


def read_sample(folder: Folder) -> Sampled:
    """The sample of the first of ``evaluate.samplers``, whatever its label, and the images' own features.

    Labels are not compared: two models may differ in the number of steps that is their default.
    """
    rows = pq.read_table(io.BytesIO(folder.read("images.parquet"))).to_pylist()
    samples = [row for row in rows if row["system"] == "sample"]
    if not samples:
        raise DataError(f"{folder.uri}: got no samples, expected a model with a decoder")
    chosen = [row for row in samples if row["setting"] == samples[0]["setting"]]
    wanted = ("sample", samples[0]["setting"])
    originals: dict[str, npt.NDArray[np.float32]] = {}
    features: dict[str, npt.NDArray[np.float32]] = {}
    for part in sorted(match[1] for entry in folder.files() if (match := _PART.match(entry.key))):
        names = json.loads(folder.read(f"parts/{part}.json"))["features"]
        arrays = np.load(io.BytesIO(folder.read(f"features/{part}.npz")), allow_pickle=False)
        for number, name in enumerate(names):
            image, *curve = name.rsplit("|", 2)
            if curve[0] == "original":
                originals[image] = arrays[str(number)]
            elif tuple(curve) == wanted:
                features[image] = arrays[str(number)]
    images = [row["image"] for row in chosen]
    return Sampled(
        bpp={row["image"]: row["bpp"] for row in chosen},
        psnr={row["image"]: row["psnr"] for row in chosen},
        features={image: features[image] for image in images},
        originals={image: originals[image] for image in images},
    )


def first_file_decodes(evaluation: Folder, image: str, model: Folder) -> bool:
    """Whether the file that was measured for ``image`` decodes with the weights in ``model``."""
    data = evaluation.read(f"files/{image}.hfd")
    try:
        return bool(Codec.load(model).reconstruct(data).size)
    except BitstreamError:
        return False
