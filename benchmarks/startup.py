"""Time `hfd --help` and `import hfd` against a bare interpreter, alternately. Prints seconds and ratios.

python -m benchmarks.startup [--runs 11]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    bare = "python -c pass"
    commands = {
        "hfd --help": [sys.executable, "-m", "hfd", "--help"],
        "import hfd": [sys.executable, "-c", "import hfd"],
        bare: [sys.executable, "-c", "pass"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<16} {median:.3f} s (median of {runs}), ratio {median / medians[bare]:.1f}")


if __name__ == "__main__":
    main()
