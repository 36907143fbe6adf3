"""SET_DISTANCES, the table of distances between the features of originals and of their decoded versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hfd.metrics.backbones import BACKBONES, BackboneName
from hfd.metrics.blocks import BlockSums, frechet_of_blocks, kernel_of_blocks
from hfd.metrics.bootstrap import MIN_PATCHES
from hfd.metrics.frechet import Features, OfCounts, kernel_distance
from hfd.metrics.gaussian_kernel import gaussian_distance, gaussian_of_blocks, gaussian_of_counts
from hfd.metrics.of_counts import frechet_of_counts, frechet_of_pairs, kernel_of_counts


@dataclass(frozen=True)
class Kind:
    """A distance between two sets of features.

    ``of_sets``: of paired features (P, D); ``of_counts``: of paired rows and their number in each
    image; ``of_blocks``: from sums over blocks.
    ``estimate``: its correction for the number of patches. ``ranks``: compares covariances, which fewer patches than
    features leave without full rank.
    """

    of_sets: Callable[[Features, Features], float]
    of_counts: Callable[[Features, Features, Sequence[int]], OfCounts]
    of_blocks: Callable[[Sequence[BlockSums]], OfCounts]
    estimate: str
    ranks: bool = False


FRECHET = Kind(
    frechet_of_pairs,
    frechet_of_counts,
    frechet_of_blocks,
    "unbiased covariances, not corrected for the number of patches",
    ranks=True,
)
KERNEL = Kind(kernel_distance, kernel_of_counts, kernel_of_blocks, "unbiased estimate")
GAUSSIAN = Kind(gaussian_distance, gaussian_of_counts, gaussian_of_blocks, "biased estimate")

LEAST_SHARE = 1 / 16
"""Least number of patches of a published protocol's Frechet distance, as a share of the number of features."""


@dataclass(frozen=True)
class SetDistance:
    """A metric of a set that compares features. ``name``: of the metric; ``patch_px``: None: as configured."""

    name: str
    backbone: BackboneName
    kind: Kind
    patch_px: int | None

    @property
    def dimension(self) -> int:
        return BACKBONES[self.backbone].dimension

    @property
    def least_patches(self) -> int:
        """Fewest patches of a value that means something. FD-EffNet, of our own, has no published protocol."""
        return round(LEAST_SHARE * self.dimension) if self.kind.ranks and self.patch_px is not None else MIN_PATCHES

    def lacks_rank(self, num_patches: int) -> bool:
        """Return True for a Frechet distance of fewer patches than features."""
        return self.kind.ranks and num_patches < self.dimension


PROTOCOL_PX = 256
"""Side of the patches of FID/256 and of its like."""

SET_DISTANCES: tuple[SetDistance, ...] = (
    SetDistance("fd_effnet", "efficientnet", FRECHET, None),
    SetDistance("kd_effnet", "efficientnet", KERNEL, None),
    SetDistance("fid_256", "inception", FRECHET, PROTOCOL_PX),
    SetDistance("kid_256", "inception", KERNEL, PROTOCOL_PX),
    SetDistance("fd_dinov2_256", "dinov2", FRECHET, PROTOCOL_PX),
    SetDistance("cmmd_256", "clip", GAUSSIAN, PROTOCOL_PX),
)


def distances_on(backbone: BackboneName) -> tuple[SetDistance, ...]:
    """Return the distances over the features of one network."""
    return tuple(one for one in SET_DISTANCES if one.backbone == backbone)


def distance_named(name: str) -> SetDistance | None:
    """Return the distance of a metric; None for a metric of another kind."""
    return next((one for one in SET_DISTANCES if one.name == name), None)
