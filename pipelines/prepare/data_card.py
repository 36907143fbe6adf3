"""Write the data card of a prepared corpus: distributions of its photographs, and a contact sheet of crops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hfd.data.crops import Crop
from hfd.data.shards import ROWS_PER_GROUP, RowGroup, read_row_group, shard_name
from hfd.io.storage import Folder
from hfd.report.data_card import Card, Property, contact_sheet, render_card
from pipelines.corpus.listing import Corpus, Origin
from pipelines.prepare.photo_table import count_crops
from pipelines.tracking import StepRun

T = TypeVar("T")

CARD = "card.html"
SHEET = "contact-sheet.webp"
NUM_CROPS = 48
NUM_GROUPS = 12
"""Row groups to read for the sheet: each is read whole, which is slow on S3."""


def write_card(folder: Folder, count: int, table: pa.Table, corpus: Corpus, record: StepRun) -> None:
    """Write ``card.html`` and the contact sheet into a prepared folder of ``count`` shards, and store both in the run.

    ``table``: every photograph, with numbered rows; see :mod:`pipelines.prepare.photo_table`.
    """
    crops = some_crops(folder, count, table)
    sheet = contact_sheet([row.pictures["x"] for row in crops])
    page = render_card(card_of(table, corpus, sheet, len(crops))).encode()
    for name, data in ((SHEET, sheet), (CARD, page)):
        folder.write(name, data)
        record.log_artifact(data, name=name, folder="data-card")


def card_of(table: pa.Table, corpus: Corpus, sheet: bytes, sheet_images: int) -> Card:
    kept = pc.is_null(table["reason"]).to_numpy()
    splits = count_crops(table.filter(pa.array(kept)))
    counts = {"photographs": len(table), "kept": int(kept.sum())}
    counts |= {f"{split} crops": number for split, number in splits.items()}
    names = zip(table["format"].to_pylist(), table["reason"].to_pylist(), strict=True)
    formats = Counter((name or "not fetched", reason is None) for name, reason in names)
    reasons = Counter(reason for reason in table["reason"].to_pylist() if reason is not None)
    return Card(
        "Data card",
        f"{corpus.uri} ({corpus})" if corpus.packs else corpus.uri,
        counts,
        _properties(table, kept),
        {name: (formats[name, True], formats[name, False]) for name, _ in formats},
        {name: (0, number) for name, number in reasons.items()},
        sheet,
        sheet_images,
        _sources(table, corpus.origins, kept),
    )


def _sources(
    table: pa.Table, origins: Sequence[Origin], kept: npt.NDArray[np.bool_]
) -> list[tuple[str, str, str, int, int, int]]:
    """Return a row for each of several sources, whose name begins the keys of its photographs."""
    crops, rows = table["crops"].to_numpy(), []
    for origin in origins:
        own = np.asarray(pc.starts_with(table["photo"], f"{origin.name}/"))
        counts = int(own.sum()), int((own & kept).sum()), int(crops[own & kept].sum())
        rows.append((origin.name, origin.uri, f"{origin.share:.0%}", *counts))
    return rows


def _properties(table: pa.Table, kept: npt.NDArray[np.bool_]) -> list[Property]:
    """Return the measured properties; those of disabled filters are not measured."""
    width, height, size = (_numbers(table, name) for name in ("width", "height", "size"))
    longer, shorter = np.maximum(width, height), np.minimum(width, height)
    wanted = [
        ("Longer side", "px", longer, True),
        ("Shorter side", "px", shorter, True),
        ("Aspect ratio", "longer over shorter side", longer / shorter, False),
        ("Size of the file", "bytes per pixel", size / (width * height), True),
        ("Estimated JPEG quality", "of JPEG files", _numbers(table, "jpeg_quality"), False),
        ("Colourfulness", "levels", _numbers(table, "colourfulness"), False),
        ("Sharpness", "variance of the Laplacian + 1", _numbers(table, "sharpness") + 1.0, True),
        ("Clipped samples", "share", _numbers(table, "clipped_share"), False),
    ]
    found = []
    for title, unit, values, log in wanted:
        known = np.isfinite(values) & (values > 0 if log else True)
        if known.any():
            found.append(Property(title, unit, values[known & kept], values[known & ~kept], log))
    return found


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """Return a column as float64, NaN where unknown."""
    return np.asarray(table[name].cast(pa.float64()).fill_null(np.nan).to_numpy(), dtype=np.float64)


def some_crops(folder: Folder, count: int, table: pa.Table) -> list[Crop]:
    """Return at most `NUM_CROPS` training crops, spread evenly over the shards, in order."""
    train = table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["split"], "train")))
    sizes: Counter[int] = Counter()
    for part, crops in zip(train["part"].to_pylist(), train["crops"].to_pylist(), strict=True):
        sizes[part] += crops
    groups = [(part, index) for part in sorted(sizes) for index in range(-(-sizes[part] // ROWS_PER_GROUP))]
    chosen = list(_evenly(groups, NUM_GROUPS))
    rows: list[Crop] = []
    for number, (part, index) in enumerate(chosen):
        share = NUM_CROPS * (number + 1) // len(chosen) - NUM_CROPS * number // len(chosen)
        group = read_row_group(folder, RowGroup(shard_name("train", part, count), index, 0))
        # Copies: a view would keep the whole row group in memory.
        rows += [Crop(row.id, row.photo, row.content, {"x": row.pictures["x"].copy()}) for row in _evenly(group, share)]
    return rows


def _evenly(items: Sequence[T], count: int) -> Iterator[T]:
    """Return at most ``count`` of the items, spread evenly, in order."""
    number = min(count, len(items))
    return (items[i * len(items) // number] for i in range(number))
