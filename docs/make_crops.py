"""Make the model card's crops: parts of Kodak pictures at twice their size, as the shipped models decode them.

python docs/make_crops.py KODAK docs/crops.webp
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hfd.codec.codec import Codec
from hfd.image.load import load_rgb
from hfd.io.model_folders import find_model

CROPS = (
    ("01.png", 300, 280),  # brick
    ("13.png", 420, 330),  # foliage and water
    ("04.png", 300, 300),  # a face
    ("04.png", 180, 150),  # knitting, where the samples have false colours
    ("20.png", 395, 290),  # a drawing and a letter
    ("23.png", 190, 190),  # saturated colours
)
"""Names, and the x and y of the centres in px."""

SIDE, SCALE, BAND, GAP = 112, 2, 28, 4
MODELS = ("desk-025", "desk-012")


def main(kodak: Path, output: Path) -> None:
    codecs = [Codec.load(find_model(name)) for name in MODELS]
    captions = ["original", *(f"{name}, {kind}" for name in MODELS for kind in ("x_hat", "sample"))]
    cell = SIDE * SCALE
    size = (len(captions) * (cell + GAP) - GAP, BAND + len(CROPS) * (cell + GAP) - GAP)
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for column, caption in enumerate(captions):
        draw.text((column * (cell + GAP), 6), caption, fill="black", font=font)
    for row, (name, x, y) in enumerate(CROPS):
        original = load_rgb(kodak / name)
        shown = [original]
        for codec in codecs:
            x_hat = codec.reconstruct(codec.compress(original).data)
            shown += [x_hat, codec.sample(x_hat, codec.default_sampling, seed=0)]
        for column, picture in enumerate(shown):
            part = picture[y - SIDE // 2 : y + SIDE // 2, x - SIDE // 2 : x + SIDE // 2]
            larger = Image.fromarray(part).resize((cell, cell), Image.Resampling.NEAREST)
            canvas.paste(larger, (column * (cell + GAP), BAND + row * (cell + GAP)))
    canvas.save(output, quality=88, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
