"""Notes for users on the packs of a corpus: packs that could not be read to their end, names in several packs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.corpus.packs.pack import Pack

MAX_SHOWN = 3


def notes_on_packs(packs: Sequence[Pack], first_part: int, table: pa.Table) -> list[str]:
    """Return one line for each of the first faulty packs, one for the others, and one for repeated names.

    ``table``: the photo table, whose parts from ``first_part`` on are the packs, in order.
    """
    if not packs:
        return []
    faults = table.filter(pc.is_in(table["photo"], value_set=pa.array([pack.key for pack in packs])))
    lines = [str(message) for message in faults["message"][:MAX_SHOWN].to_pylist()]
    if len(faults) > MAX_SHOWN:
        lines.append(f"{len(faults) - MAX_SHOWN} more packs have faults: see rejects.parquet")
    repeated = _repeated(packs, first_part, table)
    if repeated:
        shown = ", ".join(repeated[:MAX_SHOWN]) + (", ..." if len(repeated) > MAX_SHOWN else "")
        lines.append(
            f"got {len(repeated)} names in more than one pack ({shown}), expected each once. All are used; their keys "
            "begin with the pack's"
        )
    return lines


def _repeated(packs: Sequence[Pack], first_part: int, table: pa.Table) -> list[str]:
    """Return the names of members that several packs have, sorted."""
    parts = table["part"].to_numpy()  # ascending
    names = []
    for index, pack in enumerate(packs, first_part):
        start, stop = np.searchsorted(parts, (index, index + 1)).tolist()
        keys = table["photo"].slice(start, stop - start)
        members = keys.filter(pc.not_equal(keys, pack.key))
        names += pc.utf8_slice_codeunits(members, start=len(pack.key) + 1).chunks
    counts = pc.value_counts(pa.chunked_array(names, pa.string()))
    return sorted(counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist())
