"""Compare the memory of compressing a large picture file read by strips and read whole by Pillow.

    python -m benchmarks.large_files PICTURE [--side 8256] [--formats png jpg tif ppm] [--read-only]

The file is a picture repeated up to the side. Each method has its own process, and gives the same file; with
``--read-only`` it only reads all rows. Prints the peak memory above that of the process with its model loaded, in
bytes per pixel, the processor time in seconds, and the ratio of the two methods.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hfd.codec.encode import Target, encode
from hfd.codec.library import borrowed, find_models
from hfd.codec.picture import strips as picture_strips
from hfd.codec.picture.strips import StripPicture, open_picture
from hfd.image.load import RgbArray, load_rgb

NO_LIMIT = 2**40


def repeated(x: RgbArray, side: int) -> RgbArray:
    times = (-(-side // x.shape[0]), -(-side // x.shape[1]), 1)
    return np.ascontiguousarray(np.tile(x, times)[:side, :side])


def peak_bytes() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Reset the peak: loading libraries temporarily takes more memory, which would hide later peaks."""
    Path("/proc/self/clear_refs").write_text("5")


def work(path: Path, by_strips: bool, read_only: bool) -> tuple[int, float, int]:
    """Return bytes above the start, processor seconds, and a checksum of the file or of the rows."""
    torch.set_num_threads(1)
    Image.MAX_IMAGE_PIXELS = None
    picture_strips.WHOLE_PIXELS = 0 if by_strips else NO_LIMIT
    models = find_models("desk-025")
    with borrowed(models[0]) as codec:
        codec.compress(np.zeros((64, 64, 3), np.uint8))
    forget_peak()
    before, started = peak_bytes(), time.process_time()
    picture = open_picture(path, max_pixels=NO_LIMIT)
    assert isinstance(picture, StripPicture) == by_strips
    checksum = 0
    if read_only:
        for top in range(0, picture.height, 256):
            checksum = zlib.crc32(picture.rows(top, min(top + 256, picture.height)), checksum)
    else:
        checksum = zlib.crc32(encode(picture, Target(), models, max_pixels=NO_LIMIT).data)
    return peak_bytes() - before, time.process_time() - started, checksum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--side", type=int, default=8256)
    parser.add_argument("--formats", nargs="+", default=["png", "jpg"])
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    print(f"{'':<6}{'whole':>10}{'strips':>10}{'ratio':>8}   bytes a pixel;{'whole':>8}{'strips':>8}{'ratio':>8}   s")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in options.formats:
            path = Path(folder) / f"large.{suffix}"
            Image.fromarray(repeated(load_rgb(options.picture), options.side)).save(path)
            found = []
            for by_strips in (False, True):
                with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                    found.append(pool.apply(work, (path, by_strips, options.read_only)))
            (whole, whole_s, expected), (strips, strips_s, checksum) = found
            assert checksum == expected, f"{suffix}: the two methods gave different results"
            pixels = options.side**2
            print(
                f"{suffix:<6}{whole / pixels:>10.2f}{strips / pixels:>10.2f}{strips / whole:>8.2f}{'':17}"
                f"{whole_s:>8.1f}{strips_s:>8.1f}{strips_s / whole_s:>8.2f}",
                flush=True,
            )
            path.unlink()


if __name__ == "__main__":
    main()
