"""CPU time of reading a common JPEG and PNG, against Pillow's plain decode and against another checkout of `hfd`.

    python -m benchmarks.reading --before PATH_TO_CHECKOUT

Each reader is a process of its own that reads a file when it is asked to and answers its CPU time; they take turns, so
that a slow moment of the machine meets all. Prints the least and the median CPU time, the ratios of both, and the
processor. The plain decode is ``numpy.asarray(Image.open(path).convert("RGB"))``.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.paths import ROOT

SIZES = {"768 x 512": (512, 768), "12 MP": (3000, 4000)}

_WORKER = """
import sys, time
from pathlib import Path
if sys.argv[1] == "pillow":
    import numpy
    from PIL import Image
    def read(path): return numpy.asarray(Image.open(path).convert("RGB"))
else:
    try:
        from hfd.image.load import load_rgb as read
    except ImportError:  # the name of an older checkout
        from hfd.images import load_rgb as read
for line in sys.stdin:
    path, count = line.rstrip("\\n").rsplit(" ", 1)
    path = Path(path)
    started = time.process_time_ns()
    for _ in range(int(count)):
        read(path)
    print((time.process_time_ns() - started) / int(count), flush=True)
"""


class Reader:
    """A process that reads files with `hfd` of a checkout, or with Pillow alone (None)."""

    def __init__(self, checkout: Path | None) -> None:
        place = {} if checkout is None else {"PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, "pillow" if checkout is None else "hfd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | place,
            cwd=tempfile.gettempdir(),  # the folder of a script comes first in its path
        )

    def seconds(self, path: Path, count: int) -> float:
        """CPU seconds of one of ``count`` readings."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{path} {count}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) / 1e9

    def close(self) -> None:
        self._process.communicate()


def pictures(folder: Path) -> dict[str, Path]:
    """Write noise over gradients, which costs a decoder what a photograph does."""
    found = {}
    for name, (height, width) in SIZES.items():
        rng = np.random.default_rng(0)
        rows, columns = np.mgrid[:height, :width]
        planes = [rows * 200 / height, columns * 200 / width, (rows + columns) * 200 / (height + width)]
        x = (np.stack(planes, axis=-1) + rng.normal(20, 6, (height, width, 3))).clip(0, 255).astype(np.uint8)
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "maker", 1
        for suffix in ("jpg", "png"):
            path = folder / f"{width}x{height}.{suffix}"
            Image.fromarray(x).save(path, exif=exif, **({"quality": 92} if suffix == "jpg" else {"compress_level": 4}))
            found[f"{'JPEG' if suffix == 'jpg' else 'PNG'} {name}"] = path
    return found


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=30, help="readings of a 12 MP picture; of a small one, 20 times")
    options = parser.parse_args()
    readers = {"hfd": Reader(ROOT), "Pillow": Reader(None)}
    if options.before is not None:
        readers["before"] = Reader(options.before.resolve())
    print(processor())
    with tempfile.TemporaryDirectory() as folder:
        for name, path in pictures(Path(folder)).items():
            count = 1 if "MP" in name else 20
            times: dict[str, list[float]] = {reader: [] for reader in readers}
            for _ in range(options.rounds + 1):
                for reader, one in readers.items():
                    times[reader].append(one.seconds(path, count))
            least = {reader: min(values[1:]) for reader, values in times.items()}
            median = {reader: statistics.median(values[1:]) for reader, values in times.items()}
            print(f"{name}: hfd {least['hfd'] * 1e3:.2f} ms (least), {median['hfd'] * 1e3:.2f} ms (median)")
            for other in list(readers)[1:]:
                ratios = least["hfd"] / least[other], median["hfd"] / median[other]
                print(f"    against {other:<7} {ratios[0]:.3f} (least), {ratios[1]:.3f} (median)")
    for one in readers.values():
        one.close()


if __name__ == "__main__":
    main()
