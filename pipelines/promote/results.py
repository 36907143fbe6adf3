"""What a finished evaluation left of our own sample, by image: the one place that reads an evaluation's files."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq

from hfd.codec.codec import Codec
from hfd.errors import BitstreamError, DataError
from hfd.io.storage import Folder
from hfd.metrics.bootstrap import Drawn
from pipelines.promote.gate import Sampled
from pipelines.runs.parts import part_name

DRAWN = {"FD-EffNet": "fd_drawn", "KD-EffNet": "kd_drawn"}
"""Distances, and what :mod:`pipelines.evaluate.distances` calls their draws."""


def read_sample(folder: Folder) -> Sampled:
    """The sample of the first of ``evaluate.samplers``, whatever its label.

    Labels are not compared: two models may differ in the number of steps that is their default.
    """
    rows = pq.read_table(io.BytesIO(folder.read("images.parquet"))).to_pylist()
    curves = list(dict.fromkeys((row["system"], row["setting"]) for row in rows))
    chosen = next((curve for curve in curves if curve[0] == "sample"), None)
    if chosen is None:
        raise DataError(f"{folder.uri}: got no samples, expected a model with a decoder")
    ours = [row for row in rows if (row["system"], row["setting"]) == chosen]
    found = json.loads(folder.read(f"distances/{part_name(curves.index(chosen), len(curves))}"))
    drawn = {name: found[key] for name, key in DRAWN.items() if found[key] is not None}
    return Sampled(
        bpp={row["image"]: row["bpp"] for row in ours},
        psnr={row["image"]: row["psnr"] for row in ours},
        distances={name: Drawn(one["value"], tuple(one["draws"])) for name, one in drawn.items()},
    )


def first_file_decodes(evaluation: Folder, image: str, model: Folder) -> bool:
    """Whether the file that was measured for ``image`` decodes with the weights in ``model``."""
    data = evaluation.read(f"files/{image}.hfd")
    try:
        return bool(Codec.load(model).reconstruct(data).size)
    except BitstreamError:
        return False
