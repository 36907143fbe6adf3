"""Memory and time of LPIPS, LPIPS-VGG and DISTS for large pictures and for several systems, beside another checkout.

    OMP_NUM_THREADS=1 python -m benchmarks.metrics_memory PICTURE [--before CHECKOUT] [--vgg16 FOLDER]

First, for each of ``--megapixels``: PICTURE, mirrored until it has that size, and its JPEG at quality 20; with
``--vgg16-megapixels`` those for the metrics by VGG16, whose weights are in ``--vgg16``. Printed are the peak of memory
above what a process has with both pictures and the networks loaded, and seconds of processor time.

Second: the metrics of PICTURE as it is and of JPEGs of so many qualities as ``--systems`` says, in one process for each
checkout: seconds of processor time, and the peak as above.

Each figure comes from a process of its own. The values of both checkouts are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.startup import ROOT, processor
from hfd.baselines.pillow_codecs import available_baselines
from hfd.image.load import RgbArray, load_rgb

LPIPS, BY_VGG16 = ("lpips",), ("lpips_vgg", "dists")

CHILD = """
import json, sys, time
import numpy as np
import torch
from hfd.metrics.of_image import DecodedImage
from hfd.metrics.original import Original
from hfd.metrics.table import METRICS
from hfd.perceptual.vgg16 import Vgg16File
torch.set_num_threads(1)
path, folder, *names = sys.argv[1:]
def values(x, versions):
    original, file = Original(x), Vgg16File(folder) if folder else None
    images = [DecodedImage(original, version, 1000, None, None, vgg16=file) for version in versions]
    return [METRICS[name].of_image(image) for image in images for name in names]
def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1000.0
with np.load(path) as arrays:
    x, *versions = (arrays[name] for name in sorted(arrays))
values(x[:64, :64].copy(), [x[:64, :64].copy()])
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before, started = status("VmRSS"), time.process_time()
found = values(x, versions)
print(json.dumps([status("VmHWM") - before, time.process_time() - started, found]))
"""


def mirrored(x: RgbArray, megapixels: float) -> RgbArray:
    """Repeat a picture, every other time mirrored, to this size at 3:2."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    size = height, round(1.5 * height)
    rows, columns = (
        np.pad(np.arange(side), (0, max(0, wanted - side)), mode="symmetric")[:wanted]
        for side, wanted in zip(x.shape[:2], size, strict=True)
    )
    picture: RgbArray = np.ascontiguousarray(x[rows][:, columns])
    return picture


def measure(
    checkouts: Sequence[Path], pictures: Sequence[RgbArray], folder: str, names: Sequence[str]
) -> list[tuple[float, float]]:
    """MB and seconds of the metrics of the first picture and the others, by each checkout."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "pictures.npz"
        np.savez(path, **{f"{index:03d}": picture for index, picture in enumerate(pictures)})
        for checkout in checkouts:
            environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-c", CHILD, str(path), folder, *names]
            done = subprocess.run(command, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE)
            found.append(json.loads(done.stdout))
    (_, _, first), *others = found
    for _, _, values in others:
        difference = float(np.abs(np.array(values) - first).max())
        print(f"largest difference of a value {difference:.1e}", end="; ")
    return [(megabytes, seconds) for megabytes, seconds, _ in found]


def report(label: str, figures: Sequence[tuple[float, float]]) -> None:
    parts = [f"{megabytes:.0f} MB, {seconds:.2f} s" for megabytes, seconds in figures]
    (megabytes, seconds), *others = figures
    ratios = [f"; {megabytes / other[0]:.2f} of the memory, {seconds / other[1]:.2f} of the time" for other in others]
    print(f"{label}: {'; by the other checkout '.join(parts)}{''.join(ratios)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--megapixels", type=float, nargs="*", default=[6, 24])
    parser.add_argument("--vgg16", help="folder of the weights of LPIPS-VGG and DISTS")
    parser.add_argument("--vgg16-megapixels", type=float, nargs="*", default=[6])
    parser.add_argument("--systems", type=int, default=8)
    arguments = parser.parse_args()
    checkouts = [ROOT] if arguments.before is None else [ROOT, arguments.before.resolve()]
    jpeg = next(one for one in available_baselines()[0] if one.name == "jpeg")
    x = load_rgb(arguments.picture)
    print(processor())

    def versions(picture: RgbArray, qualities: Sequence[int]) -> list[RgbArray]:
        return [picture, *(jpeg.decode(jpeg.encode(picture, quality)) for quality in qualities)]

    for size in arguments.megapixels:
        pictures = versions(mirrored(x, size), [20])
        report(f"{size:g} megapixels, LPIPS", measure(checkouts, pictures, "", LPIPS))
    if arguments.systems:
        several = versions(x, np.linspace(10, 90, arguments.systems).astype(int).tolist())
        label = f"{x.shape[1]} x {x.shape[0]} px, {arguments.systems} systems"
        report(f"{label}, LPIPS", measure(checkouts, several, "", LPIPS))
        if arguments.vgg16:
            report(f"{label}, LPIPS-VGG and DISTS", measure(checkouts, several, arguments.vgg16, BY_VGG16))
    for size in arguments.vgg16_megapixels if arguments.vgg16 else ():
        pictures = versions(mirrored(x, size), [20])
        report(f"{size:g} megapixels, LPIPS-VGG and DISTS", measure(checkouts, pictures, arguments.vgg16, BY_VGG16))


if __name__ == "__main__":
    main()
