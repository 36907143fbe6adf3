"""Lines on photographs that the step leaves out, and the errors where too few are left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hfd.errors import DataError
from hfd.image.tree import Group, Kind, Skipped
from hfd.io.storage import Folder
from pipelines.prepare.photo_table import REJECTS
from pipelines.prepare.plans import FILTERED, GLOBAL_REASONS

MAX_SHOWN = 2
"""Photographs that a line names of each reason."""


def lines_on_left_out(table: pa.Table, metadata: Sequence[str], folder: Folder) -> list[str]:
    """Return one line on the photographs of a photo table that are left out, and one on fields that none of them has.

    ``metadata``: the names of the fields that were asked for.
    """
    lines = []
    left = table.filter(pc.is_valid(table["reason"]))
    if len(left):
        counted = Counter(left["reason"].to_pylist())
        told = ", ".join(f"{count} {reason} ({_names(left, reason, count)})" for reason, count in counted.most_common())
        lines.append(f"left out {len(left)} of {len(table)} photographs: {told}. See {folder.uri}/{REJECTS}")
    absent = [name for name in metadata if table[f"metadata.{name}"].null_count == len(table)]
    if absent and len(left) < len(table):
        lines.append(f"no photograph has the field {', '.join(absent)}, which data.metadata names")
    return lines


def skipped_to_record(skipped: Skipped) -> list[dict[str, Any]]:
    """Return the files that were left out by kind, as JSON; empty for none."""
    return [asdict(group) for group in skipped.groups]


def skipped_of_record(groups: Sequence[Mapping[str, Any]]) -> Skipped:
    """Return what :func:`skipped_to_record` was given. Raises :class:`TypeError` for anything else."""
    return Skipped(
        tuple(Group(**{**one, "kind": Kind(**one["kind"]), "examples": tuple(one["examples"])}) for one in groups)
    )


def check_enough(table: pa.Table, max_reject_share: float, place: str, folder: Folder) -> None:
    """Raise :class:`DataError` where too large a share was rejected, or where no crop is left to train on.

    Photographs that ``data.where`` or a comparison left out are not counted as rejected. ``place``: the corpus.
    """
    apart = pa.array([*GLOBAL_REASONS, FILTERED])
    unusable = table.filter(pc.and_(pc.is_valid(table["reason"]), pc.invert(pc.is_in(table["reason"], apart))))
    if len(unusable) > max_reject_share * len(table):
        counted = sorted(Counter(unusable["reason"].to_pylist()).items())
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted)
        raise DataError(
            f"data.uri: {len(unusable)} of {len(table)} photographs in {place} rejected ({reasons}), "
            f"expected at most {max_reject_share:.0%}. The first: {_first(unusable)} "
            f"See {folder.uri}/{REJECTS}, or raise prepare.max_reject_share",
            reason="too-many-rejects",
        )
    if pc.any(pc.and_(pc.is_null(table["reason"]), pc.equal(table["split"], "train"))).as_py():
        return
    if not len(table):
        raise DataError(
            f"data.uri: got no pictures in the packs of {place}, expected some. Correct data.ignore", reason="empty"
        )
    filtered = table.filter(pc.equal(table["reason"], FILTERED))
    if len(filtered) == len(table):
        raise DataError(
            f"data.where: got none of {len(table)} photographs, expected some. The first: {_first(filtered)} "
            "Correct the conditions",
            reason="empty",
        )
    raise DataError(
        f"data.uri: got no training crops from {len(table)} photographs ({len(filtered)} left out by data.where). "
        "Give more photographs",
        reason="empty",
    )


def _names(left: pa.Table, reason: str, count: int) -> str:
    own = left.filter(pc.equal(left["reason"], reason))["photo"][:MAX_SHOWN].to_pylist()
    return ", ".join([*own, *(["..."] if count > MAX_SHOWN else [])])


def _first(left: pa.Table) -> str:
    """Return the message of the first row, as a sentence."""
    return f"{str(left['message'][0].as_py()).rstrip('.')}."
