"""The content of a report as plain, frozen values. No torch, no configuration, no files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SYSTEM_LABELS: dict[str, str] = {
    "autoencoder": "autoencoder (x_hat)",
    "sample": "sample (stage 2)",
    "jpeg": "JPEG",
    "webp": "WebP",
    "avif": "AVIF",
    "jpegxl": "JPEG XL",
    "jpeg2000": "JPEG 2000",
    "bpg": "BPG",
    "vtm": "VTM",
}
"""Display name of each ``system``. A system that is not listed keeps its own name."""

OUR_SYSTEMS = ("autoencoder", "sample")
"""The two stages of this codec; every other system is a baseline."""


def system_label(system: str) -> str:
    """Return the display name of a system: ``"avif"`` -> ``"AVIF"``; an unknown one unchanged."""
    return SYSTEM_LABELS.get(system, system)


@dataclass(frozen=True)
class SummaryRow:
    """One system at one setting over a set of images; ``values`` by the names of `hfd.metrics.table.METRICS`.

    Distortions and rates are means over images, times are in seconds per megapixel. None (or NaN): not measured.
    ``counts``: the number of images in a mean, by name, if below ``num_images``: missing and infinite values (an exact
    picture's PSNR, an energy or MS-SSIM that does not apply) are left out.
    ``trained_on``: the pretrained networks whose features took part in the training of the row's decoder.
    """

    system: str
    setting: str
    num_images: int
    values: Mapping[str, float | None]
    counts: Mapping[str, int] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()

    @property
    def bpp(self) -> float:
        """8 x bytes of the finished files / pixels; NaN if missing."""
        return _number(self.values.get("bpp"))

    def to_record(self) -> dict[str, Any]:
        """Convert to one flat JSON object."""
        return {
            "system": self.system,
            "setting": self.setting,
            "num_images": self.num_images,
            "counts": dict(self.counts),
            **({"trained_on": list(self.trained_on)} if self.trained_on else {}),
            **self.values,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SummaryRow:
        values = dict(record)
        counts = values.pop("counts", {})
        trained_on = tuple(values.pop("trained_on", ()))
        return cls(values.pop("system"), values.pop("setting"), values.pop("num_images"), values, counts, trained_on)


@dataclass(frozen=True)
class Gain:
    """Difference of a sample's ``metric`` from that of x_hat (negative: lower), with its 95 % bootstrap interval."""

    setting: str
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RatePoint:
    """A baseline at our rate, interpolated between its settings: ``bpp``, ``psnr`` in dB, both distances.

    ``psnr``: None where the two settings have PSNR of other images (some are decoded exactly).
    """

    system: str
    bpp: float
    psnr: float | None
    fd_effnet: float
    kd_effnet: float


MAX_RECORDED = 100
"""Names of lacking images in a record."""


@dataclass(frozen=True)
class FewerImages:
    """Rows that lack images of the set, all of them the same ones: a table of their own.

    ``lacking``: the names of these images, in their order in the set. ``rows``: those that lack them. ``beside``: rows
    over the whole set, measured again over the images of ``rows``.
    """

    lacking: tuple[str, ...]
    rows: tuple[SummaryRow, ...]
    beside: tuple[SummaryRow, ...]

    @property
    def num_images(self) -> int:
        return self.rows[0].num_images

    def to_record(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        sides = {"rows": self.rows, "beside": self.beside}
        records = {name: [row.to_record() for row in rows] for name, rows in sides.items()}
        return {"num_lacking": len(self.lacking), "lacking": list(self.lacking[:MAX_RECORDED]), **records}


@dataclass(frozen=True)
class PublishedPoint:
    """A point of a published curve; ``protocol``: what its authors measured, and on which pictures.

    ``values`` by the names of `hfd.metrics.table.METRICS`.
    """

    system: str
    protocol: str
    bpp: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class ImageRow:
    """One system at one setting on one image; ``values`` by the names of `hfd.metrics.table.METRICS`."""

    image: str
    system: str
    setting: str
    width: int
    height: int
    num_bytes: int
    values: Mapping[str, float | None]

    def to_record(self) -> dict[str, Any]:
        """Convert to one flat object, a row of ``images.parquet``."""
        fields = {name: getattr(self, name) for name in IMAGE_FIELDS}
        return {**fields, **self.values}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ImageRow:
        values = {name: value for name, value in record.items() if name not in IMAGE_FIELDS}
        return cls(**{name: record[name] for name in IMAGE_FIELDS}, values=values)


IMAGE_FIELDS = ("image", "system", "setting", "width", "height", "num_bytes")
"""Columns of ``images.parquet`` beside the metrics."""


@dataclass(frozen=True)
class ShownVersion:
    """One version of a picture; ``caption``: its rate and quality; ``uri``: a data URI."""

    label: str
    caption: str
    uri: str


@dataclass(frozen=True)
class ShownExample:
    """A picture in two or more versions of equal size, the original first; sides in px; ``thumbnail``: a data URI."""

    image: str
    width: int
    height: int
    thumbnail: str
    versions: Sequence[ShownVersion]


@dataclass(frozen=True)
class Extremes:
    """The worst and the best pictures of a row by one metric, as (picture, value), the worst and the best first."""

    row: str
    metric: str
    worst: tuple[tuple[str, float], ...]
    best: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Report:
    """Content of the page. ``facts`` are (name, value) pairs, shown in order; a value may have many lines.

    ``summary``: all rows; the headline describes the first one of system "sample". ``fewer``: those of its rows that
    lack images, which the page shows in tables of their own. ``published``: results of others, by protocols of their
    own. ``pictures_note``: which pictures are shown, and in what form; ``extremes``: the worst and the best pictures.
    ``warnings``: sentences at the top of the page, e.g. "12 of 1000 photographs rejected".
    """

    title: str
    summary: tuple[SummaryRow, ...]
    images: tuple[ImageRow, ...]
    examples: tuple[ShownExample, ...]
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    fewer: tuple[FewerImages, ...] = ()
    published: tuple[PublishedPoint, ...] = ()
    pictures_note: str = ""
    extremes: tuple[Extremes, ...] = ()


def over_all_images(rows: Iterable[SummaryRow], fewer: Iterable[FewerImages]) -> list[SummaryRow]:
    """Return the rows of a summary that have all images, and those of systems of which nothing was measured."""
    apart = {(row.system, row.setting) for one in fewer for row in one.rows}
    return [row for row in rows if (row.system, row.setting) not in apart]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
