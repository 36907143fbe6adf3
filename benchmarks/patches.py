"""Measure the extra work of patches and the speed of two processes: one group against the whole image.

    python -m benchmarks.patches PICTURE [--sides 3000 4000] [--repeats 3]

Work is counted, not timed: FLOPs of the network over all windows of the default layout, and over the whole image, at
several sizes. Then the picture, enlarged to ``--sides``, is sampled by the same plan alternately in one process and in
two, each with one thread, after a warm-up. Prints processor time beside wall time, to show the load of other programs.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from hfd.codec.codec import Codec
from hfd.codec.patches import MapPieces
from hfd.codec.workers import process_map
from hfd.diffusion.unet import UNet
from hfd.geometry.plan import plan_picture
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import find_model

SIZES = [(2160, 3840), (3000, 4000), (4000, 6000), (8000, 12_000), (20_000, 20_000)]


def flops_of(net: UNet, height: int, width: int, device: str = "meta") -> float:
    """Count the FLOPs of one evaluation of a picture padded to the network's stride, on "meta", without computing."""
    x = torch.zeros(1, 3, height + -height % net.stride, width + -width % net.stride, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x, x, torch.zeros(1, device=device))
    return float(counter.get_total_flops())


def cpu_s() -> float:
    """Return the processor time of this process and its children, in s."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--sides", type=int, nargs=2, default=[3000, 4000], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    codec = Codec.load(find_model(options.model), engine="torch")
    assert codec.decoder is not None
    settings = codec.default_sampling
    reach = codec.reach(settings)
    net = copy.deepcopy(codec.decoder.net)
    assert flops_of(net, 200, 160, "cpu") == flops_of(net.to("meta"), 200, 160)
    worst = 0.0
    for height, width in SIZES:
        plan = plan_picture(height, width, reach)
        windows = [patch.tile.window for group in plan.groups for patch in group]
        work = sum(flops_of(net, box.height, box.width) for box in windows) / flops_of(net, height, width)
        worst = max(worst, work)
        print(f"{width:6d} x {height:<6d} {plan.num_patches:4d} patches: {work:.3f} times the FLOPs of the whole image")
    print(f"at most {worst:.3f} (goal 1.3)")

    height, width = options.sides
    x_hat: RgbArray = np.array(
        Image.fromarray(load_rgb(options.picture)).resize((width, height), Image.Resampling.BICUBIC)
    )

    def timed(map_fn: MapPieces) -> tuple[float, RgbArray]:
        started = time.perf_counter()
        found = codec.sample(x_hat, settings, seed=0, map_fn=map_fn)
        return time.perf_counter() - started, found

    plan = plan_picture(height, width, reach)
    ratios = []
    with process_map(2) as two:
        warm = np.ascontiguousarray(x_hat[:2400, :2400])
        codec.sample(warm, settings, seed=0, map_fn=two)
        for _ in range(options.repeats):
            own = cpu_s()
            one_s, one = timed(map)
            own = cpu_s() - own
            theirs = cpu_s()
            two_s, both = timed(two)
            theirs = cpu_s() - theirs
            assert np.array_equal(one, both)
            ratios.append(one_s / two_s)
            print(
                f"one process {one_s:.1f} s ({own:.1f} s of processors), two {two_s:.1f} s ({theirs:.1f}): "
                f"{ratios[-1]:.2f} times",
                flush=True,
            )
    print(
        f"{width} x {height} in {plan.num_patches} patches, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: "
        f"two processes {statistics.median(ratios):.2f} times as fast as one (goal 1.7)"
    )


if __name__ == "__main__":
    main()
