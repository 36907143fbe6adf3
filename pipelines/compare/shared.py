"""Group evaluations by the pictures that they share: a picture is the same by its name, size and features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.compare.features import RunDistances
from pipelines.compare.finished import Finished

TOLERANCE = 0.05
"""Features (0 to 6) of one picture differ by less between machines; those of other pictures by more."""
MAX_NAMED = 3


@dataclass(frozen=True)
class Shared:
    """Evaluations and the pictures that all of them have, in the order of the first."""

    runs: tuple[Finished, ...]
    images: tuple[str, ...]


def group_by_pictures(runs: Sequence[Finished]) -> tuple[list[Shared], list[str]]:
    """Return groups of evaluations that share pictures, and a sentence for each thing that they do not share."""
    sizes = {run.name: _sizes(run) for run in runs}
    means = {run.name: RunDistances(run).originals() for run in runs}
    groups: list[list[Finished]] = []
    common: list[dict[str, tuple[int, int]]] = []
    notes: list[str] = []
    for run in runs:
        for group, images in zip(groups, common, strict=True):
            same = {image: size for image, size in images.items() if sizes[run.name].get(image) == size}
            others = [image for image in same if _differ(means[group[0].name], means[run.name], image)]
            if others:
                notes.append(f"{run.name}: {_named(others)} {_are(others)} another picture than in {group[0].name}.")
            same = {image: size for image, size in same.items() if image not in others}
            if same:
                group.append(run)
                images.clear()
                images.update(same)
                break
        else:
            groups.append([run])
            common.append(dict(sizes[run.name]))
    if len(groups) > 1:
        named = "; ".join(", ".join(run.name for run in group) for group in groups)
        notes.append(f"Not all evaluations share pictures: they are compared in {len(groups)} groups ({named}).")
    notes += [
        f"{run.name} has {len(sizes[run.name])} pictures, {left} of them not in all others: compared on the "
        f"{len(images)} that are shared."
        for group, images in zip(groups, common, strict=True)
        for run in group
        if (left := len(sizes[run.name]) - len(images))
    ]
    return [Shared(tuple(group), tuple(images)) for group, images in zip(groups, common, strict=True)], notes


def _sizes(run: Finished) -> dict[str, tuple[int, int]]:
    columns = [run.table[name].to_pylist() for name in ("image", "width", "height")]
    return {image: (width, height) for image, width, height in zip(*columns, strict=True)}


def _differ(first: Mapping[str, object], second: Mapping[str, object], image: str) -> bool:
    if image not in first or image not in second:
        return False
    return not np.allclose(np.asarray(first[image]), np.asarray(second[image]), rtol=0.0, atol=TOLERANCE)


def _named(images: Sequence[str]) -> str:
    more = f" and {len(images) - MAX_NAMED} more" if len(images) > MAX_NAMED else ""
    return ", ".join(images[:MAX_NAMED]) + more


def _are(images: Sequence[str]) -> str:
    return "is" if len(images) == 1 else "are each"
