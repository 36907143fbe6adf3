"""Fuzz the container and its sections, guided by coverage.

    pip install atheris
    python -m benchmarks.fuzz_guided --seconds 600 [--corpus FOLDER]

Starts from the golden files; every mutation gets a matching CRC32, so that its content is parsed. Allowed are a
BitstreamError, a DataError, and files that are written again byte for byte. The first other outcome ends the run with
its traceback, an exit code above 0 and the bytes in a file `crash-...`. Files that reach new lines are kept in the
corpus, from which a later run continues. `benchmarks/fuzz.py` covers the entropy decoder and the networks.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "tests/golden"
MAX_PIXELS = 2**18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        parser.error("atheris: missing. Run pip install atheris")
    with atheris.instrument_imports(include=["hfd.codec.container", "hfd.codec.sections"]):
        from hfd.codec.container import pack, unpack
        from hfd.codec.sections import read_extras
        from hfd.errors import BitstreamError, DataError

    def one(data: bytes) -> None:
        data = data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")
        try:
            container = unpack(data)
            assert pack(container) == data, "two files that hold the same"
            read_extras(container, max_pixels=MAX_PIXELS).to_sections()
        except (BitstreamError, DataError) as error:
            assert "\n" not in str(error), "a message of several lines"

    corpus = options.corpus or Path(tempfile.mkdtemp())
    corpus.mkdir(parents=True, exist_ok=True)
    for file in GOLDEN.glob("*.hfd"):
        shutil.copy(file, corpus)
    limits = [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=5", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], str(corpus), *limits], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
