"""Readers to compare with, for ``readers.py``: Pillow, libvips, gdk-pixbuf and Chromium, as their users call them."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image, ImageOps

from benchmarks.reader_pictures import Pixels

Reader = Callable[[bytes], Pixels]
"""A file -> uint8 (H, W, 3), upright, over white. Raises whatever the reader raises."""

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WEB_TYPES: Mapping[bytes, str] = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpeg",
    b"RIFF": "webp",
    b"BM": "bmp",
    b"GIF8": "gif",
}
_BATCH = 150


def by_pillow(data: bytes) -> Pixels:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    return np.asarray(image.convert("RGB"))


def by_libvips(data: bytes) -> Pixels:
    image: Any = pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on="none").autorot()
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    image = image.cast("uchar")
    return np.asarray(image.numpy().reshape(image.height, image.width, -1)[..., :3] * np.ones(3, np.uint8))


@cache
def gdk_pixbuf() -> Reader | None:
    """gdk-pixbuf by its C interface; None where it is not installed."""
    name = ctypes.util.find_library("gdk_pixbuf-2.0")
    if name is None:
        return None
    lib, pointer = ctypes.CDLL(name), ctypes.c_void_p
    for function in ("loader_new", "loader_get_pixbuf", "apply_embedded_orientation", "read_pixels"):
        getattr(lib, f"gdk_pixbuf_{function}").restype = pointer
    for function in ("get_width", "get_height", "get_n_channels", "get_rowstride"):
        getattr(lib, f"gdk_pixbuf_{function}").argtypes = [pointer]
    lib.gdk_pixbuf_loader_write.argtypes = [pointer, ctypes.c_char_p, ctypes.c_size_t, pointer]
    lib.gdk_pixbuf_loader_close.argtypes = [pointer, pointer]
    for function in ("loader_get_pixbuf", "apply_embedded_orientation", "read_pixels"):
        getattr(lib, f"gdk_pixbuf_{function}").argtypes = [pointer]

    def read(data: bytes) -> Pixels:
        loader = lib.gdk_pixbuf_loader_new()
        written = lib.gdk_pixbuf_loader_write(loader, data, len(data), None)
        if not (lib.gdk_pixbuf_loader_close(loader, None) and written):
            raise OSError("not loaded")
        pixbuf = lib.gdk_pixbuf_apply_embedded_orientation(lib.gdk_pixbuf_loader_get_pixbuf(loader))
        width, height = lib.gdk_pixbuf_get_width(pixbuf), lib.gdk_pixbuf_get_height(pixbuf)
        channels, stride = lib.gdk_pixbuf_get_n_channels(pixbuf), lib.gdk_pixbuf_get_rowstride(pixbuf)
        raw = ctypes.string_at(lib.gdk_pixbuf_read_pixels(pixbuf), stride * (height - 1) + width * channels)
        rows = np.frombuffer(raw.ljust(stride * height, b"\0"), np.uint8).reshape(height, stride)
        x = rows[:, : width * channels].reshape(height, width, channels)
        if channels == 3:
            return x
        opacity = x[..., 3:] / 255.0
        mixed: Pixels = (x[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)
        return mixed

    return read


def by_chromium(files: Sequence[bytes]) -> list[Pixels | None] | None:
    """Decode files on canvases of headless Chromium; None for each that it does not show, and for all without it."""
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if found is None:
        return None
    return [x for at in range(0, len(files), _BATCH) for x in _on_a_page(found, files[at : at + _BATCH])]


def web_type(data: bytes) -> str | None:
    """The type of a picture that browsers show."""
    if data[4:12] == b"ftypavif":
        return "avif"
    return next((name for head, name in _WEB_TYPES.items() if data.startswith(head)), None)


_PAGE = """<!doctype html><body>%s<pre id=out></pre><script>
addEventListener("load", () => {
  const lines = [];
  for (const image of document.images) {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    if (!canvas.width) { lines.push("0 0 -"); continue; }
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let text = "";
    for (let i = 0; i < data.length; i += 4) text += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
    lines.push(canvas.width + " " + canvas.height + " " + btoa(text));
  }
  document.getElementById("out").textContent = lines.join("\\n") + "\\nend";
});
</script>"""


def _on_a_page(executable: str, files: Sequence[bytes]) -> list[Pixels | None]:
    sources = [f"data:image/{web_type(data)};base64,{base64.b64encode(data).decode()}" for data in files]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        images = "".join(f'<img src="{source}">' for source in sources)
        page.write_text(_PAGE % images, encoding="utf-8")
        command = [executable, "--headless", "--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]
        command += [
            f"--user-data-dir={folder}/profile",
            "--timeout=120000",
            "--virtual-time-budget=100000",
            "--dump-dom",
        ]
        ended = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=False, timeout=600)
    text = re.search(r"<pre id=\"out\">(.*?)\nend</pre>", ended.stdout, re.DOTALL)
    if text is None:
        raise RuntimeError(f"Chromium returned no pictures: {ended.stderr[-300:]}")
    return [_decoded(line) for line in text[1].splitlines()]


def _decoded(line: str) -> Pixels | None:
    width, height, data = line.split(" ")
    if data == "-":
        return None
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(int(height), int(width), 3)
