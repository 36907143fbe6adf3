"""One megapixel in a warm process: the decode of x_hat and of the sample, against another checkout.

    python -m benchmarks.warm PICTURE [--before CHECKOUT] [--runs 5] [--model desk-025]

The picture is tiled to 1,024 x 1,024 and compressed once, by this checkout; both checkouts decode that file. Each has
one process a run, in turn, which decodes once to load the networks and fill the memory, then is timed. Printed are
the least CPU seconds of each kind and their ratios to those of ``--before``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import hfd
from benchmarks.startup import ROOT, processor

SIDE = 1024
KINDS = {"x_hat": {"realism": 0.0}, "sample": {}}
CHILD = """
import json, sys, time
import hfd
path, kinds = sys.argv[1], json.loads(sys.argv[2])
found = {}
for name, options in kinds.items():
    hfd.decompress(path, **options)
    started = time.process_time()
    hfd.decompress(path, **options)
    found[name] = time.process_time() - started
print(json.dumps(found))
"""


def tiled(picture: Path) -> Image.Image:
    """The picture, repeated and cut to ``SIDE`` x ``SIDE``."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    height, width = pixels.shape[:2]
    return Image.fromarray(np.tile(pixels, (-(-SIDE // height), -(-SIDE // width), 1))[:SIDE, :SIDE])


def cpu_seconds(file: Path, checkout: Path) -> dict[str, float]:
    """CPU seconds of the second decode of each kind, in a process of the checkout."""
    command = [sys.executable, "-c", CHILD, str(file), json.dumps(KINDS)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="desk-025")
    arguments = parser.parse_args()
    checkouts = [ROOT] if arguments.before is None else [ROOT, arguments.before.resolve()]
    runs: dict[Path, list[dict[str, float]]] = {checkout: [] for checkout in checkouts}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "a.hfd"
        file.write_bytes(hfd.compress(tiled(arguments.picture), model=arguments.model))
        for _ in range(arguments.runs):
            for checkout in checkouts:
                runs[checkout].append(cpu_seconds(file, checkout))
    print(f"{processor()}; {SIDE} x {SIDE}, {arguments.model}; least of {arguments.runs}")
    for kind in KINDS:
        least = [min(run[kind] for run in runs[checkout]) for checkout in checkouts]
        ratios = "".join(f"   {least[0] / other:.3f} of the other checkout's {other:.3f} s" for other in least[1:])
        print(f"{kind:<8} {least[0]:7.3f} CPU s{ratios}")


if __name__ == "__main__":
    main()
