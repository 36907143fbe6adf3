"""Decode generated pictures with `hfd`, Pillow, libvips, gdk-pixbuf and Chromium, and print where they disagree.

    python -m benchmarks.readers --count 3000 --large

The generator (``reader_pictures.py``) writes pictures over format, mode, depth, planes, compression, metadata and size,
mostly byte by byte, so that their pixels are known by the rule of the format and not by any decoder. A decoded picture
agrees if no sample is more than 3 levels off; of lossy formats, if the mean difference is at most 6. `hfd` fails the
run with a wrong picture, or with a refusal that does not name the kind of the file. The other readers are counted for
comparison: Pillow is called as most programs do (EXIF turned, converted to RGB over white, without profiles). Pictures
whose stated colours differ from sRGB are compared with Chromium alone.

The same ``--seed`` and ``--count`` give the same pictures and, with the same libraries, the same lines.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.other_readers import Reader, by_chromium, by_libvips, by_pillow, gdk_pixbuf, web_type
from benchmarks.reader_pictures import Case, Pixels, cases, large_cases
from hfd.codec.picture.strips import open_picture
from hfd.errors import DataError
from hfd.image.load import load_rgb
from hfd.image.pillow_warnings import pillow_warnings_off

NAMED = ("unread-format", "transparent", "too-large")
"""Reasons of refusals that name the kind of the file."""


_VARIANTS = re.compile(", (deflate|big-endian|turned|interlaced)")
"""Words of a kind that disagreements are not counted apart by."""


@dataclass
class Tally:
    """Counts of one reader, and its disagreements and refusals by kind."""

    agreed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    disagreed: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case, x: Pixels | None, why: str = "") -> None:
        if x is None:
            self.refused[f"{case.kind}{why}"] += 1
        elif case.is_shown_by(x):
            self.agreed += 1
        else:
            self.disagreed[_VARIANTS.sub("", case.kind)] += 1

    def lines(self, name: str, show: bool) -> list[str]:
        total = f"{self.agreed} agreed, {self.refused.total()} refused, {self.disagreed.total()} disagreed"
        lines = [f"{name:<11} {total}"]
        if show:
            lines += [f"    disagreed {count:>4}  {kind}" for kind, count in sorted(self.disagreed.items())]
        return lines


def read_by_hfd(case: Case) -> tuple[Pixels | None, str]:
    """The picture as training reads it; checked against the codec's reader, over white. Or None and the reason."""
    try:
        x = load_rgb(case.data)
    except DataError as error:
        kind = re.sub(r" \(.*?\)", "", str(error).removeprefix("image: got "))
        return None, f"{'' if error.reason in NAMED else 'UNNAMED '}{error.reason}: {kind.partition(',')[0]}"
    picture = open_picture(case.data)
    rgb = picture.rows(0, picture.height)
    if picture.extras.alpha is not None:
        opacity = picture.extras.alpha[..., None] / 255.0
        rgb = (rgb * opacity + 255 * (1 - opacity)).round().astype(np.uint8)
    is_same = rgb.shape == x.shape and int(np.abs(rgb.astype(np.int16) - x).max()) <= 1
    return (x, "") if is_same else (np.zeros((0, 0, 3), np.uint8), "")


def attempt(reader: Reader, data: bytes) -> Pixels | None:
    try:
        with pillow_warnings_off:
            return reader(data)
    except Exception:  # a refusal of any kind
        return None


def compare(found: Iterable[Case], *, chromium: bool) -> tuple[dict[str, Tally], Counter[str]]:
    """Count by reader, and the refusals of `hfd` by their message."""
    readers: dict[str, Reader] = {"Pillow": by_pillow, "libvips": by_libvips}
    if (gdk := gdk_pixbuf()) is not None:
        readers["gdk-pixbuf"] = gdk
    tallies = {name: Tally() for name in ("hfd", *readers)}
    refusals: Counter[str] = Counter()
    shown: list[Case] = []
    for case in found:
        x, why = read_by_hfd(case)
        tallies["hfd"].add(case, x)
        if x is None:
            refusals[why] += 1
        if not case.is_managed:
            for name, reader in readers.items():
                tallies[name].add(case, attempt(reader, case.data))
        if chromium and web_type(case.data) is not None and case.expected.size < 2**20:
            shown.append(case)
    decoded = by_chromium([case.data for case in shown]) if shown else None
    if decoded is not None:
        tallies["Chromium"] = Tally()
        for case, x in zip(shown, decoded, strict=True):
            tallies["Chromium"].add(case, x)
    return tallies, refusals


def save(folder: Path, found: Iterable[Case]) -> None:
    """Write the pictures that `hfd` shows otherwise than expected."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, case in enumerate(found):
        x, _ = read_by_hfd(case)
        if x is not None and not case.is_shown_by(x):
            (folder / f"{n:05}-{re.sub('[^A-Za-z0-9]+', '-', case.kind)}").write_bytes(case.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="small pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--large", action="store_true", help="also pictures of 17.6 megapixels")
    parser.add_argument("--no-chromium", action="store_true")
    parser.add_argument("--all", action="store_true", help="list the disagreements of the other readers, too")
    parser.add_argument("--save", type=Path, help="a folder for the pictures that hfd shows wrongly")
    options = parser.parse_args()
    found = list(cases(options.count, options.seed))
    rounds = [("small", found)] + [("large", large_cases())] * options.large
    failed = 0
    for name, pictures in rounds:
        tallies, refusals = compare(pictures, chromium=not options.no_chromium)
        print(f"{name} pictures")
        for reader, tally in tallies.items():
            print("\n".join(tally.lines(reader, options.all or reader == "hfd")))
        for why, count in sorted(refusals.items()):
            print(f"    refused   {count:>4}  {why}")
        unnamed = sum(count for why, count in refusals.items() if why.startswith("UNNAMED"))
        failed += tallies["hfd"].disagreed.total() + unnamed
        print(f"wrong pictures: {tallies['hfd'].disagreed.total()}; refusals that name no kind: {unnamed}")
    if options.save:
        save(options.save, found)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
