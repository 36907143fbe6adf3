"""Make the golden files, their expected content, and the hex dump in docs/format.md.

    python -m tests.golden.make

Run this only if the shipped model or the format has changed: the files represent all files of earlier versions, and a
decoder that does not read them is broken.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from typing import Any

import numpy as np
from PIL import Image

from hfd.codec.codec import Codec
from hfd.codec.container import LATENTS, SAMPLING, unpack
from hfd.codec.sampling_options import SamplingOptions
from hfd.codec.sections import Extras, read_extras
from hfd.image.load import RgbArray
from hfd.io.model_folders import find_model
from tests.support.paths import GOLDEN, ROOT

SPECIFICATION = ROOT / "docs/format.md"
MODEL = "desk-012-46469781"
BEGIN, END = "<!-- dump: begin -->", "<!-- dump: end -->"
DUMPED = "sampling"
"""The file that the specification shows byte by byte."""

MAX_PIXELS = 2**20


def picture(height: int, width: int) -> RgbArray:
    """A gradient, a disc and stripes, by integer arithmetic: the same on any machine."""
    rows, columns = np.mgrid[:height, :width]
    x = np.stack([40 + 2 * rows + columns, 200 - 3 * rows // 2, 90 + 2 * columns], axis=-1)
    x[(rows - height // 2) ** 2 + (columns - width // 2) ** 2 < (height * width) // 12] = (220, 60, 30)
    x[(columns % 16 < 3) & (rows > height // 2)] //= 2
    return x.clip(0, 255).astype(np.uint8)


def exif() -> bytes:
    """A TIFF stream with two tags: Software and ImageDescription."""
    tags = Image.Exif()
    tags[0x0131], tags[0x010E] = "hfd", "golden"
    return tags.tobytes().removeprefix(b"Exif\0\0")


def xmp() -> bytes:
    """An XMP packet, reduced as the specification says, that states a creator."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:RDF><rdf:Description rdf:about=""><dc:creator><rdf:Seq>'
        b"<rdf:li>golden</rdf:li></rdf:Seq></dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def golden_inputs() -> dict[str, tuple[RgbArray, Extras]]:
    """Return pictures with their extras, by the file's name."""
    rows, columns = np.mgrid[:40, :24]
    alpha = (255 - 4 * rows - columns).clip(0, 255).astype(np.uint8)
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + b"\x02\x33" + bytes(2)
    sampling = SamplingOptions(4, "heun", realism=0.75, grain=True, seed=20_231_001)
    return {
        "plain": (picture(64, 64), Extras()),
        "one-pixel": (picture(1, 1), Extras()),
        "odd": (picture(37, 53), Extras()),
        "wide": (picture(5, 300), Extras()),
        "two-blocks": (picture(65, 100), Extras()),
        "alpha": (picture(40, 24), Extras(alpha)),
        "icc": (picture(24, 40), Extras(icc=curve * 20)),
        "exif": (picture(24, 40), Extras(exif=exif())),
        DUMPED: (picture(24, 40), Extras(sampling=SamplingOptions(steps=4, seed=7))),
        "grey": (np.repeat(picture(24, 40)[..., :1], 3, axis=2), Extras(is_grey=True)),
        "xmp": (picture(24, 40), Extras(xmp=xmp())),
        "all": (picture(40, 24), Extras(alpha, curve, exif(), sampling)),
    }


def with_defaults(options: SamplingOptions) -> dict[str, Any]:
    defaults = {"sampler": "auto", "steps": None, "gamma": 0.0, "realism": 1.0, "grain": False, "finish": True}
    values = {**defaults, "seed": None, **options.stated()}
    return {"kind": values.pop("sampler"), **values}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def describe(data: bytes, codec: Codec) -> dict[str, Any]:
    """Return the expected content of a file as JSON values."""
    container = unpack(data)
    extras = read_extras(container, max_pixels=MAX_PIXELS)
    y_hat = np.ascontiguousarray(codec.open(container).y_hat, "<f4")
    return {
        "file": {"bytes": len(data), "sha256": digest(data)},
        "width": container.width,
        "height": container.height,
        "model": container.model.hex(),
        "rate": container.rate,
        "checksum": f"{container.checksum:08x}",
        "sections": {str(tag): len(section) for tag, section in container.sections.items()},
        "y_hat": {"shape": list(y_hat.shape), "sha256": digest(y_hat.tobytes())},
        "alpha": None if extras.alpha is None else {"sha256": digest(extras.alpha.tobytes())},
        "icc": None if extras.icc is None else {"bytes": len(extras.icc), "sha256": digest(extras.icc)},
        "exif": None if extras.exif is None else {"bytes": len(extras.exif), "sha256": digest(extras.exif)},
        "xmp": None if extras.xmp is None else {"bytes": len(extras.xmp), "sha256": digest(extras.xmp)},
        "sampling": with_defaults(extras.sampling),
        "grey": extras.is_grey,
    }


def dump(data: bytes) -> str:
    """Format a file byte by byte, with the meaning of each field."""
    container = unpack(data)
    width, height, section = container.width, container.height, container.sections[SAMPLING]
    assert max(width, height) <= 256 and len(section) == 12 and sorted(container.sections) == [LATENTS, SAMPLING]
    fields = [
        (4, "magic"),
        (1, "version 2"),
        (1, "layout: a byte each of width and height, sections, colour 0"),
        (4, f"model {container.model.hex()}"),
        (1, f"rate {container.rate}"),
        (1, f"width - 1: {width - 1}, so {width} pixels"),
        (1, f"height - 1: {height - 1}, so {height} pixels"),
        (4, f"checksum of symbols: {container.checksum:08x}"),
        (1, f"section: tag {SAMPLING}, sampling"),
        (1, f"its length: {len(section)} bytes"),
        (1, "sampler 0: auto"),
        (1, "flags: steps and seed follow"),
        (2, "steps: 4"),
        (8, "seed: 7"),
        (1, "tag 0: no further section, the latents follow"),
        (len(container.sections[LATENTS]), f"latents: {len(container.sections[LATENTS])} bytes, up to the CRC32"),
        (4, f"CRC32 of all before it: {zlib.crc32(data[:-4]):08x}"),
    ]
    assert sum(length for length, _ in fields) == len(data)
    lines, position = [], 0
    for length, meaning in fields:
        for start in range(position, position + length, 16):
            row = data[start : min(start + 16, position + length)].hex(" ")
            lines.append(f"{start:04x}  {row:<47}  {meaning if start == position else ''}".rstrip())
        position += length
    return "\n".join(["```", *lines, "```"])


def main() -> None:
    codec = Codec.load(find_model(MODEL))
    expected = {}
    for name, (x, extras) in golden_inputs().items():
        data = codec.compress(x, sections=extras.to_sections()).data
        (GOLDEN / f"{name}.hfd").write_bytes(data)
        expected[name] = describe(data, codec)
        print(f"{name}.hfd: {len(data)} bytes")
    text = io.StringIO()
    json.dump({"model": MODEL, "files": expected}, text, indent=1)
    (GOLDEN / "expected.json").write_text(text.getvalue() + "\n")
    before, rest = SPECIFICATION.read_text().split(BEGIN)
    after = rest.split(END)[1]
    shown = dump((GOLDEN / f"{DUMPED}.hfd").read_bytes())
    SPECIFICATION.write_text(f"{before}{BEGIN}\n{shown}\n{END}{after}")


if __name__ == "__main__":
    main()
