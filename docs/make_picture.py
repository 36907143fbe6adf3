"""Make the README's picture and table from a finished workspace.

    python docs/make_picture.py runs/demo docs/demo.webp

Puts the first shown picture's versions side by side (original, x_hat, sample, AVIF), with captions, and
prints the summary as a Markdown table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hfd.report.content import SummaryRow
from hfd.report.tables import summary_markdown

SIDE, BAND = 320, 40


def main(workspace: Path, output: Path) -> None:
    report = workspace / json.loads((workspace / "latest.json").read_text())["report"]
    names = sorted((report.parent / "pictures").glob("*/names.txt"))[0]
    rows = json.loads((report.parent / "manifest.json").read_text())["facts"]["summary"]
    _, *curves = names.read_text().splitlines()
    canvas = Image.new("RGB", (len(curves) * (SIDE + 4) - 4, SIDE + BAND), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for number, curve in enumerate(curves):
        picture = Image.open(names.parent / f"{number}.webp").convert("RGB")
        left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        canvas.paste(picture.crop((left, top, left + SIDE, top + SIDE)), (number * (SIDE + 4), BAND))
        draw.text((number * (SIDE + 4), 10), curve.replace("|", ", ").removesuffix(", "), fill="black", font=font)
    canvas.save(output, quality=90, method=6)
    print(summary_markdown([SummaryRow.from_record(row) for row in rows]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
