"""Measure the visibility of patch borders: gradient energy across them and Frechet distance, against the whole image.

    python -m benchmarks.seams PICTURES [--count 6] [--patch-px 704] [--groups-px 256]

PICTURES: files, or folders of them. Those below a megapixel are joined, four at a time, to larger ones, not at borders
of patches. Each is compressed and decoded by the shipped model three times: the whole image at once,
in one group, and in four groups, with patches far smaller than the defaults, so that there are many borders.

A border's energy is the mean squared difference of the pixels on its two sides; elsewhere it is that of all other
neighbours in the same direction. Their ratio includes the picture's own content at the borders. It is therefore also
computed for the whole image at the same positions, and the effect of patches is the quotient (goal 0.98 to 1.02).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from hfd.codec.codec import Codec, Request
from hfd.codec.container import unpack
from hfd.geometry.plan import PatchLayout, Plan, Scheme, plan_picture
from hfd.image.load import IMAGE_SUFFIXES, RgbArray, load_rgb
from hfd.io.model_folders import find_model
from hfd.metrics.features import METRIC_NAME, effnet_features
from hfd.metrics.frechet import GaussianStats, frechet_distance
from hfd.metrics.patches import fid_patches

MEGAPIXEL = 10**6
WHOLE = PatchLayout(Scheme.ONE_GROUP, patch_pixels=2**40)
FD_PX = 128


@dataclass(frozen=True)
class Energy:
    """Sums and numbers of squared differences, at borders and elsewhere, which add up over pictures."""

    border: float = 0.0
    borders: int = 0
    other: float = 0.0
    others: int = 0

    def __add__(self, more: Energy) -> Energy:
        sums = (self.border + more.border, self.borders + more.borders, self.other + more.other)
        return Energy(*sums, self.others + more.others)

    @property
    def ratio(self) -> float:
        return (self.border / self.borders) / (self.other / self.others)


def energy_of(x: RgbArray, plan: Plan) -> Energy:
    tops, lefts = (
        {getattr(patch.tile.core, side) for group in plan.groups for patch in group} for side in ("top", "left")
    )
    total = Energy()
    for picture, starts in ((x, tops), (x.transpose(1, 0, 2), lefts)):
        squares = (np.diff(picture.astype(np.float64), axis=0) ** 2).mean(axis=2)
        at = np.isin(np.arange(1, len(picture)), sorted(starts))
        total += Energy(squares[at].sum(), squares[at].size, squares[~at].sum(), squares[~at].size)
    return total


def large_pictures(paths: list[Path]) -> Iterator[RgbArray]:
    waiting: dict[tuple[int, int], list[RgbArray]] = {}
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            x = load_rgb(file)
            if x.shape[0] * x.shape[1] >= MEGAPIXEL:
                yield x
                continue
            height, width = sorted(x.shape[:2])
            x = x if x.shape[1] == width else np.rot90(x)
            four = waiting.setdefault((height, width), [])
            below, right = divmod(len(four), 2)
            # Not in the middle, at borders of patches: the effect of a join on its surroundings is not a seam.
            four.append(x[: height - (4 if below else height // 6), : width - (4 if right else width // 6)])
            if len(four) == 4:
                joined = np.concatenate([np.concatenate(four[:2], axis=1), np.concatenate(four[2:], axis=1)])
                del waiting[height, width]
                if joined.shape[0] * joined.shape[1] >= MEGAPIXEL:
                    yield np.ascontiguousarray(joined)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--patch-px", type=int, default=704, help="side of a window in one group")
    parser.add_argument("--groups-px", type=int, default=256, help="side of a core in four groups")
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec.load(find_model(options.model))
    settings = codec.default_sampling
    layouts = {
        "one group": PatchLayout(Scheme.ONE_GROUP, patch_pixels=options.patch_px**2),
        "four groups": PatchLayout(Scheme.FOUR_GROUPS, groups_px=options.groups_px),
    }
    features = effnet_features()
    stats = {name: GaussianStats.of(np.zeros((0, 1280))) for name in ("original", "whole", *layouts)}
    ours, wholes = {name: Energy() for name in layouts}, {name: Energy() for name in layouts}
    differ = dict.fromkeys(layouts, 0.0)
    count = patches = 0
    for x in islice(large_pictures(options.pictures), options.count):
        source = codec.open(unpack(codec.compress(x).data))
        whole = codec.render(source, Request(settings, count, layout=WHOLE))
        stats["original"] += GaussianStats.of(features(fid_patches(x, FD_PX)))
        stats["whole"] += GaussianStats.of(features(fid_patches(whole, FD_PX)))
        for name, layout in layouts.items():
            plan = plan_picture(*x.shape[:2], codec.reach(settings), layout)
            found = codec.render(source, Request(settings, count, layout=layout))
            ours[name] += energy_of(found, plan)
            wholes[name] += energy_of(whole, plan)
            stats[name] += GaussianStats.of(features(fid_patches(found, FD_PX)))
            differ[name] += float(np.abs(found.astype(np.int16) - whole).mean())
            patches += plan.num_patches
            assert plan.num_patches > 1, f"{name}: got one patch, expected borders. Give another size of patches"
        count += 1
        print(f"{count}: {x.shape[1]} x {x.shape[0]}", flush=True)
    if not count:
        parser.error(f"pictures: got none, expected some of a megapixel, or four of one size, in {options.pictures}")
    base = frechet_distance(stats["original"], stats["whole"])
    print(f"{count} pictures, {settings.label}, {patches} patches, {stats['whole'].num} patches of {FD_PX} px measured")
    for name in layouts:
        distance = frechet_distance(stats["original"], stats[name])
        print(
            f"{name:11}: energy at borders {ours[name].ratio:.4f} of elsewhere, whole image {wholes[name].ratio:.4f} "
            f"there: ratio {ours[name].ratio / wholes[name].ratio:.4f} (goal 0.98 to 1.02)\n"
            f"{'':11}  {METRIC_NAME} {distance:.3f} against {base:.3f}: ratio {distance / base:.4f} "
            f"(goal 0.97 to 1.03)\n"
            f"{'':11}  differs from the whole by {differ[name] / count:.3f} grey levels in the mean"
        )


if __name__ == "__main__":
    main()
