"""The pictures that the evaluations of a comparison keep for their viewers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hfd.io.storage import Folder
from hfd.report.compare.content import ComparedRow
from hfd.report.gallery import Kept, StoredVersion
from hfd.report.tables import format_number
from pipelines.compare.finished import Finished
from pipelines.compare.shared import Shared
from pipelines.evaluate.distances import ORIGINAL
from pipelines.evaluate.results import ExamplePictures

RULE = (
    "first those that most evaluations keep, of these the worst and best of each system by each metric, place by "
    "place, then the others in the order of the set"
)
"""The choice of pictures, as the page states it."""


def kept_pictures(shared: Shared, rows: Sequence[ComparedRow]) -> Kept:
    """Return the pictures that evaluations keep, with the versions of ``rows``."""
    by_curve = {(row.run, row.row.system, row.row.setting): row for row in rows}
    kept: dict[str, list[StoredVersion]] = {}
    counts: Counter[str] = Counter()
    images = set(shared.images)
    for run in shared.runs:
        for image, folder, curves in _stored(run):
            if image not in images:
                continue
            counts[image] += 1
            versions = kept.setdefault(image, [])
            for number, (system, setting) in enumerate(curves):
                file = f"{number}.webp"
                row = by_curve.get((run.name, system, setting))
                if (system, setting) == ORIGINAL and not versions:
                    versions.append(StoredVersion("original", "uncompressed", folder, file))
                elif row is not None:
                    versions.append(StoredVersion(row.label, _caption(run, image, row), folder, file))
    return Kept({image: versions for image, versions in kept.items() if len(versions) > 1}, counts)


def _stored(run: Finished) -> list[tuple[str, Folder, Sequence[tuple[str, str]]]]:
    if run.folder is None or not run.folder.exists("pictures"):
        return []
    names = sorted({entry.key.partition("/")[0] for entry in (run.folder / "pictures").files()})
    homes = [run.folder / f"pictures/{name}" for name in names]
    return [(found.image, home, found.curves) for home in homes for found in [ExamplePictures.read(home)]]


def _caption(run: Finished, image: str, row: ComparedRow) -> str:
    values = run.values_of(image, row.row.system, row.row.setting)
    return f"{format_number(values['bpp'], 3)} bpp, {format_number(values['psnr'], 2)} dB"
