"""Results of the parts of an evaluation, exchanged between processes as JSON, and of a row as MLflow takes them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from hfd.errors import DataError
from hfd.geometry.tiles import Reach
from hfd.io.storage import Folder
from hfd.metrics.backbones import BackboneName
from hfd.metrics.protocols import SetProtocol
from hfd.metrics.set_distances import SET_DISTANCES
from hfd.report.content import SummaryRow
from hfd.report.summarise import Curve


@dataclass(frozen=True)
class LargeImage:
    """A large picture after stage 1, before the sampling of stage 2.

    ``index``: of the image in the evaluation; ``size``: (height, width); ``reaches``: of each sampler; ``pixels``: the
    folder for x_hat and the sampled tiles as raw pixels.
    """

    index: int
    name: str
    size: tuple[int, int]
    seed: int
    bpp_est: float
    encode_s: float
    stage1_s: float
    reaches: tuple[Reach, ...]
    pixels: str
    is_grey: bool = False

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LargeImage:
        reaches = tuple(Reach(**reach) for reach in record["reaches"])
        return cls(**{**record, "size": tuple(record["size"]), "reaches": reaches})


@dataclass(frozen=True)
class PartResult:
    """A part of an evaluation: ``patches``: number of those of the originals, by network; ``large``: pictures to be
    sampled."""

    digest: str
    rejects: Sequence[dict[str, str]]
    patches: Mapping[BackboneName, int]
    large: Sequence[LargeImage] = ()

    def to_record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PartResult:
        large = [LargeImage.from_record(one) for one in record.get("large", ())]
        patches = record["patches"]
        patches = {"efficientnet": patches} if isinstance(patches, int) else patches  # as earlier versions wrote it
        return cls(record["digest"], record["rejects"], patches, large)


def rejection(photo: str, error: DataError) -> dict[str, str]:
    """Return the record of a rejected image."""
    return {"photo": photo, "reason": error.reason, "message": str(error)}


@dataclass(frozen=True)
class UnitResult:
    """One sampled unit of a large picture: ``file`` holds its raw pixels. ``killed``: its workers died; no file."""

    label: str
    digest: str
    killed: bool = False
    file: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class ExamplePictures:
    """A shown image and its versions, in the order of their files ``0.webp``, ``1.webp``, ..."""

    image: str
    curves: tuple[Curve, ...]

    def write(self, folder: Folder) -> None:
        folder.write(EXAMPLE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: Folder) -> ExamplePictures:
        record = json.loads(folder.read(EXAMPLE))
        return cls(record["image"], tuple((system, setting) for system, setting in record["curves"]))


EXAMPLE = "example.json"


def tracked_metrics(
    row: SummaryRow, protocols: Mapping[str, SetProtocol] = MappingProxyType({}), *, lacks_images: bool = False
) -> dict[str, float]:
    """Return the finite numbers of ``row`` under valid names in MLflow: ``sample 50 steps grain/psnr``.

    A set metric by another protocol than its own has another name: ``sample 1 step/fd_effnet 64px``; so has that of a
    row that lacks images: ``webp at most our rate/fd_effnet 23 images``.
    """
    line = re.sub(r"[^\w\-. :/]", "", f"{row.system} {row.setting}").strip()
    values = {name: value for name, value in row.values.items() if value is not None and math.isfinite(value)}
    fewer = f" {row.num_images} images" if lacks_images else ""
    deviations = {one.name: protocols[one.name].deviation if one.name in protocols else "" for one in SET_DISTANCES}
    deviations = {name: f"{deviation}{fewer}" for name, deviation in deviations.items()}
    values = {f"{name} {deviations.get(name, '').strip()}".strip(): value for name, value in values.items()}
    counts = {f"{name}_images": float(num) for name, num in row.counts.items()}
    return {f"{line}/{name}": value for name, value in {**values, "images": float(row.num_images), **counts}.items()}
