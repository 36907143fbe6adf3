"""The report of a soak: a row for each week, and the counts of faults and outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.soak.records import WeekRecord

HEADER = "| week | fault | moment | outcome | photos | rejected | champion | workspace | CPU | time |"
RULE = "| ---: | --- | --- | --- | ---: | ---: | --- | ---: | ---: | ---: |"


def row(record: WeekRecord) -> str:
    champion = f"version {record.champion.version}" if record.champion is not None else "none"
    cells = [
        record.number, record.fault, record.moment, record.outcome, record.photos, record.rejected,
        champion + (", new" if record.promoted else ""),
        f"{record.num_bytes / 1e6:.1f} MB, {record.num_bytes / max(1, record.largest_run):.1f} runs",
        f"{record.cpu_s:.0f} s", f"{record.wall_s:.0f} s",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def summary(records: Sequence[WeekRecord], weeks: int) -> str:
    """Return the last line: the weeks without a problem."""
    return f"{sum(not record.problems for record in records)} of {weeks} weeks"


def markdown(records: Sequence[WeekRecord], weeks: int, title: Sequence[str]) -> str:
    """Return the page. ``title``: lines below its heading, such as the command and the processor."""
    counts = Counter((record.fault, record.outcome) for record in records)
    outcomes = sorted({record.outcome for record in records})
    faults = sorted({record.fault for record in records})
    promotions = sum(record.promoted for record in records)
    lines = [
        "# A year of retrainings under faults", "", *title, "",
        f"**{summary(records, weeks)}** without a problem; {promotions} promotions; "
        f"{sum(record.cpu_s for record in records) / 60:.0f} min of processor time.", "",
        "| fault | " + " | ".join(outcomes) + " |", "| --- |" + " ---: |" * len(outcomes),
        *(f"| {fault} | " + " | ".join(str(counts[fault, one]) for one in outcomes) + " |" for fault in faults), "",
        HEADER, RULE, *map(row, records),
    ]  # fmt: skip
    failed = [record for record in records if record.problems]
    if failed:
        lines += ["", "## Problems", ""]
        lines += [f"- week {record.number}: {' '.join(text.split())}" for record in failed for text in record.problems]
    return "\n".join(lines) + "\n"
