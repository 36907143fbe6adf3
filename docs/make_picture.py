"""Make the README's picture and table from a finished workspace.

    python docs/make_picture.py runs/score docs/decoded.webp [NUMBER]

Puts the versions of a shown picture (the first, or NUMBER, from 0) side by side, with captions, and prints the summary
as a Markdown table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hfd.io.storage import Folder
from hfd.report.content import SummaryRow
from hfd.report.tables import summary_markdown
from pipelines.evaluate.results import ExamplePictures

SIDE, BAND = 320, 40


def main(workspace: Path, output: Path, number: int = 0) -> None:
    evaluation = (workspace / json.loads((workspace / "latest.json").read_text())["report"]).parent
    home = sorted((evaluation / "pictures").iterdir())[number]
    curves = ExamplePictures.read(Folder(str(home))).curves
    canvas = Image.new("RGB", (len(curves) * (SIDE + 4) - 4, SIDE + BAND), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for place, curve in enumerate(curves):
        picture = Image.open(home / f"{place}.webp").convert("RGB")
        left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        canvas.paste(picture.crop((left, top, left + SIDE, top + SIDE)), (place * (SIDE + 4), BAND))
        draw.text((place * (SIDE + 4), 10), ", ".join(filter(None, curve)), fill="black", font=font)
    canvas.save(output, quality=90, method=6)
    rows = json.loads((evaluation / "manifest.json").read_text())["facts"]["summary"]
    print(summary_markdown([SummaryRow.from_record(row) for row in rows]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
