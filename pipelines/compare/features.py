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
from hfd.io.storage import Folder
from hfd.metrics.backbones import BACKBONES, BackboneName
from hfd.metrics.set_distances import distances_on
from hfd.report.summarise import Curve, CurveDistances, distances_of_images, draws_of_images
from pipelines.compare.finished import Finished
from pipelines.evaluate.distances import (
    EFFNET,
    ORIGINAL,
    CurveImages,
    FeatureFile,
    feature_folder,
    read_distances,
    read_pairs,
)

DRAWS = 50
"""Bootstrap draws of distances that the evaluation itself did not draw: a draw of 2000 patches takes 0.17 s
(``benchmarks/metrics.py``)."""
MAX_DRAWN_PATCHES = 2048
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
        """Return the mean EfficientNet features (1280,) of the original of each picture that has patches."""
        return {image: x.mean(axis=0) for image, x, _ in self._pairs(ORIGINAL, EFFNET) if len(x)}

    def over(self, wanted: Sequence[tuple[Curve, frozenset[str]]]) -> list[CurveDistances]:
        """Return the distances of each curve over its pictures, computed on all cores."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(lambda one: self._distances(*one), wanted))

    def _distances(self, curve: Curve, images: frozenset[str]) -> CurveDistances:
        found = CurveDistances()
        for network in self._networks:
            found |= self._on(network, curve, images)
        return found

    def _on(self, network: BackboneName, curve: Curve, images: frozenset[str]) -> CurveDistances:
        """Return the distances over the features of one network."""
        names = [one.name for one in distances_on(network)]
        reported = self._run.summary.get(curve)
        if reported is not None and reported.num_images == len(images):
            stored = self._stored.get(curve)
            found = CurveDistances(
                {name: (reported.values if stored is None else stored.values).get(name) for name in names},
                {} if stored is None else {name: one for name, one in stored.draws.items() if name in names},
            )
            known = any(value is not None for value in found.values.values())
            return found if not known or found.draws else self._with_draws(found, network, curve)
        pairs = [pair for pair in self._pairs(curve, network) if pair[0] in images]
        if not pairs or _num_patches(pairs) > MAX_PATCHES:
            return CurveDistances(dict.fromkeys(names))
        return distances_of_images(*_sides(pairs), DRAWS if _num_patches(pairs) <= MAX_DRAWN_PATCHES else 0, network)

    def _with_draws(self, found: CurveDistances, network: BackboneName, curve: Curve) -> CurveDistances:
        pairs = self._pairs(curve, network)
        if not 0 < _num_patches(pairs) <= MAX_DRAWN_PATCHES:
            return found
        return replace(found, draws=draws_of_images(*_sides(pairs), DRAWS, network))

    @cached_property
    def _networks(self) -> list[BackboneName]:
        """The networks whose features the evaluation compared."""
        measured = {name for row in self._run.summary.values() for name in row.values}
        return [name for name in BACKBONES if any(one.name in measured for one in distances_on(name))]

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
    def _files(self) -> dict[BackboneName, list[FeatureFile]]:
        folder = self._run.folder
        return {} if folder is None else {name: _feature_files(folder, feature_folder(name)) for name in BACKBONES}

    def _pairs(self, curve: Curve, network: BackboneName) -> Pairs:
        return [pair for file in self._files.get(network, ()) for pair in read_pairs(file, CurveImages(curve))]


def _feature_files(folder: Folder, name: str) -> list[FeatureFile]:
    homes = [home for home in (folder, folder / "large") if home.exists(name)]
    return [FeatureFile(home, f"{name}/{entry.key}") for home in homes for entry in (home / name).files()]


def _sides(pairs: Pairs) -> tuple[Mapping[str, npt.NDArray[np.float32]], Mapping[str, npt.NDArray[np.float32]]]:
    return {image: original for image, original, _ in pairs}, {image: decoded for image, _, decoded in pairs}


def _num_patches(pairs: Pairs) -> int:
    return sum(len(decoded) for _, _, decoded in pairs)
