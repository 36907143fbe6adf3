"""One megapixel in a warm process: the decode of x_hat and of the sample, by both engines and by another checkout.

    python -m benchmarks.warm PICTURE [--before CHECKOUT] [--runs 5] [--model desk-025]

The picture is tiled to 1,024 x 1,024 and compressed once, by this checkout; all decode that file. Each has one process
a run, in turn, which decodes once to load the networks and fill the memory, then is timed. Printed are the least CPU
seconds of each kind, and those of ONNX Runtime (``auto``) over the others'. ``OMP_NUM_THREADS=1`` times one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import hfd
from benchmarks.startup import ROOT, processor

SIDE = 1024
KINDS: dict[str, dict[str, float | str]] = {"x_hat": {"realism": 0.0}, "sample": {}}
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


@dataclass(frozen=True)
class Build:
    """A checkout, and the engine of its decodes; None: what it chooses."""

    label: str
    checkout: Path
    engine: str | None = None


def cpu_seconds(file: Path, build: Build) -> dict[str, float]:
    """CPU seconds of the second decode of each kind, in a process of the build."""
    engine: dict[str, float | str] = {} if build.engine is None else {"engine": build.engine}
    kinds = {name: options | engine for name, options in KINDS.items()}
    command = [sys.executable, "-c", CHILD, str(file), json.dumps(kinds)]
    environment = {**os.environ, "PYTHONPATH": str(build.checkout)}
    done = subprocess.run(command, env=environment, cwd=build.checkout, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="desk-025")
    arguments = parser.parse_args()
    builds = [Build("auto", ROOT), Build("torch", ROOT, "torch")]
    if arguments.before is not None:
        builds.append(Build("the other checkout", arguments.before.resolve()))
    runs: dict[Build, list[dict[str, float]]] = {build: [] for build in builds}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "a.hfd"
        file.write_bytes(hfd.compress(tiled(arguments.picture), model=arguments.model))
        for _ in range(arguments.runs):
            for build in builds:
                runs[build].append(cpu_seconds(file, build))
    print(f"{processor()}; {SIDE} x {SIDE}, {arguments.model}; least of {arguments.runs}")
    for kind in KINDS:
        ours, *others = (min(run[kind] for run in runs[build]) for build in builds)
        ratios = (
            f"   {ours / other:.3f} of {build.label}'s {other:.3f} s"
            for build, other in zip(builds[1:], others, strict=True)
        )
        print(f"{kind:<8} {ours:7.3f} CPU s{''.join(ratios)}")


if __name__ == "__main__":
    main()
