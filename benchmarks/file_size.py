"""Bytes of finished files against the likelihood estimate, over a folder of pictures.

    python -m benchmarks.file_size MODEL ../shared/data/kodak

MODEL is a model folder or a workspace. Prints, for each picture, bytes, estimated bytes, the excess, and
whether it is within 1 % + 64 bytes; then the totals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hfd.codec.codec import Codec
from hfd.image.load import load_rgb
from hfd.io.storage import Folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pictures", type=Path)
    arguments = parser.parse_args()
    codec = Codec.load(Folder(arguments.model))
    total = estimated = within = count = 0.0
    for path in sorted(arguments.pictures.iterdir()):
        x = load_rgb(path)
        compressed = codec.compress(x, estimate=True)
        assert compressed.bpp_est is not None
        num_bytes, estimate = len(compressed.data), compressed.bpp_est * x.shape[0] * x.shape[1] / 8
        fits = abs(num_bytes - estimate) <= 0.01 * estimate + 64
        print(f"{path.name:<16} {num_bytes:8d} bytes, estimated {estimate:10.1f}, excess {num_bytes - estimate:+8.1f}")
        total, estimated, within, count = total + num_bytes, estimated + estimate, within + fits, count + 1
    print(f"total: {total / estimated - 1:+.3%} over the estimate; {within:.0f} of {count:.0f} within 1 % + 64 bytes")


if __name__ == "__main__":
    main()
