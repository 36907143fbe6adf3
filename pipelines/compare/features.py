"""Distances of an evaluation over some of its pictures, from the files in its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hfd.errors import DataError
from hfd.report.summarise import Curve, CurveDistances, distances_of_images, draws_of_images
from pipelines.compare.finished import Finished
from pipelines.evaluate.distances import ORIGINAL, CurveImages, FeatureFile, read_distances, read_pairs

DRAWS = 50
"""Bootstrap draws of distances that the evaluation itself did not draw: a draw of 1000 patches takes 0.15 s."""
MAX_DRAWN_PATCHES = 1024
"""Above this number of patches, such draws take minutes: the distances have no interval."""
MAX_PATCHES = 8192
"""Above this number of patches, a distance over some of the pictures is not computed."""

Pairs = list[tuple[str, npt.NDArray[np.float32], npt.NDArray[np.float32]]]


class RunDistances:
    """The distances of an evaluation.

    Those over all pictures of a curve were computed by the evaluation; others need its features, which do not exist
    where it was measured in blocks, or where only artifacts are reachable.
    """

    def __init__(self, run: Finished) -> None:
        self._run = run

    def originals(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the mean features (1280,) of the original of each picture that has patches."""
        return {image: x.mean(axis=0) for image, x, _ in self._pairs(ORIGINAL) if len(x)}

    def over(self, wanted: Sequence[tuple[Curve, frozenset[str]]]) -> list[CurveDistances]:
        """Return the distances of each curve over its pictures, computed on all cores."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(lambda one: self._distances(*one), wanted))

    def _distances(self, curve: Curve, images: frozenset[str]) -> CurveDistances:
        reported = self._run.summary.get(curve)
        if reported is not None and reported.num_images == len(images):
            found = self._stored.get(curve)
            if found is None:
                found = CurveDistances(reported.values.get("fd_effnet"), reported.values.get("kd_effnet"))
            return found if found.fd is None or found.drawn else self._with_draws(found, curve)
        pairs = [pair for pair in self._pairs(curve) if pair[0] in images]
        if not pairs or _num_patches(pairs) > MAX_PATCHES:
            return CurveDistances(None, None)
        return distances_of_images(*_sides(pairs), DRAWS if _num_patches(pairs) <= MAX_DRAWN_PATCHES else 0)

    def _with_draws(self, found: CurveDistances, curve: Curve) -> CurveDistances:
        pairs = self._pairs(curve)
        if not 0 < _num_patches(pairs) <= MAX_DRAWN_PATCHES:
            return found
        fd, kd = draws_of_images(*_sides(pairs), DRAWS)
        return replace(found, fd_drawn=fd, kd_drawn=kd)

    @cached_property
    def _stored(self) -> dict[Curve, CurveDistances]:
        """The distances that the evaluation wrote, with the draws of our systems."""
        if self._run.folder is None:
            return {}
        curves = list(dict.fromkeys(self._run.curves))
        try:
            return read_distances(self._run.folder, curves)
        except DataError as error:
            if error.reason != "missing":
                raise
            return {}

    @cached_property
    def _files(self) -> list[FeatureFile]:
        folder = self._run.folder
        if folder is None:
            return []
        homes = [home for home in (folder, folder / "large") if home.exists("features")]
        return [FeatureFile(home, f"features/{entry.key}") for home in homes for entry in (home / "features").files()]

    def _pairs(self, curve: Curve) -> Pairs:
        return [pair for file in self._files for pair in read_pairs(file, CurveImages(curve))]


def _sides(pairs: Pairs) -> tuple[Mapping[str, npt.NDArray[np.float32]], Mapping[str, npt.NDArray[np.float32]]]:
    return {image: original for image, original, _ in pairs}, {image: decoded for image, _, decoded in pairs}


def _num_patches(pairs: Pairs) -> int:
    return sum(len(decoded) for _, _, decoded in pairs)
