"""Time the search for near pairs of a million perceptual hashes, against comparing every pair.

    python -m benchmarks.duplicates [--hashes 1000000] [--bits 4]

Hashes are random; one in a thousand is a near copy of another. Comparing every pair is measured for a hundred hashes
against all and scaled up, since its work is proportional.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from hfd.data.duplicates import distance, first_of_near


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=4)
    arguments = parser.parse_args()
    rng, count = np.random.default_rng(0), arguments.hashes
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    copies = count // 1000
    hashes[-copies:] = hashes[:copies] ^ np.uint64(0b101)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    dropped = int((~first_of_near(hashes, arguments.bits)).sum())
    ours = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    started = time.perf_counter()
    for value in hashes[:100]:
        (distance(hashes, value) <= arguments.bits).any()
    every = (time.perf_counter() - started) / 100 * count / 2
    print(f"{count} hashes within {arguments.bits} bits: {ours:.1f} s, {grown:.0f} MiB, {dropped} dropped")
    print(f"every pair: {every:.0f} s, from 100 of the rows; ratio {every / ours:.0f}")


if __name__ == "__main__":
    main()
