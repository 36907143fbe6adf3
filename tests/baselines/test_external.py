"""Codecs that are programs: real ones where installed, and a made one for every kind of failure."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfd.baselines.external import External, Programs, missing_programs
from hfd.baselines.pillow_codecs import bracket_rate
from hfd.config.codecs import READY
from hfd.errors import ConfigError, DataError
from hfd.image.load import RgbArray
from hfd.metrics.distortion import psnr
from tests.support.pictures import photograph

pytestmark = pytest.mark.integration

COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
JPEG = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], 'JPEG', quality=int(sys.argv[3]))"
PNG = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], 'PNG')"


def made(encode: str, decode: str = PNG, **more: object) -> Programs:
    """A codec whose programs are lines of Python."""
    fields = {
        "name": "made",
        "encode": (sys.executable, "-c", encode, "{input}", "{output}", "{quality}"),
        "decode": (sys.executable, "-c", decode, "{input}", "{output}"),
        "smallest": 1,
        "largest": 95,
        "extension": "jpg",
        **more,
    }
    return Programs(**fields)  # type: ignore[arg-type]


def made_with(line: str, *arguments: str) -> Programs:
    return replace(made(COPY), **{line: arguments})  # type: ignore[arg-type]


def codec_for(entry: Programs, x: RgbArray) -> External:
    return External(entry, (x.shape[0], x.shape[1]))


@pytest.mark.parametrize("name", ["jpegxl", "jpeg2000", "bpg", "vtm"])
def test_a_ready_codec_meets_a_rate_and_decodes(name: str) -> None:
    entry = Programs(**READY[name].model_dump())
    if missing := missing_programs(entry):
        pytest.skip(f"needs {', '.join(missing)}" + (": make codecs" if name.startswith("jpeg") else ""))
    x = photograph(120, 152, seed=3)
    codec = codec_for(entry, x)
    target = x.shape[0] * x.shape[1] // 8  # one bit per pixel
    below, above = bracket_rate(codec, x, target)
    assert below is not None and above is not None
    assert 0.7 * target < len(below.data) <= target <= len(above.data) < 1.3 * target
    assert codec.decode(below.data).shape == x.shape
    worst, best = (psnr(x, codec.decode(codec.encode(x, quality))) for quality in (entry.smallest, entry.largest))
    assert worst < psnr(x, codec.decode(below.data)) < best


@pytest.mark.parametrize("falling", [False, True])
def test_files_are_those_of_the_program(falling: bool) -> None:
    x = photograph(40, 56, seed=1)
    ends = {"smallest": -95, "largest": -1} if not falling else {"smallest": 95, "largest": 1}
    entry = made(JPEG.replace("int(sys.argv[3])", "96 - abs(int(sys.argv[3]))"), **ends)
    codec = codec_for(entry, x)
    data = codec.encode(x, ends["smallest"] // 2)
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, "JPEG", quality=96 - abs(ends["smallest"] // 2))
    assert data == buffer.getvalue()
    assert np.array_equal(codec.decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert len(codec.encode(x, ends["smallest"])) < len(codec.encode(x, ends["largest"]))


def test_planes_hold_full_range_bt709() -> None:
    """Grey has no chroma, and a colour comes back to within the rounding of 8 bits."""
    entry = made(COPY, COPY, pixels="yuv444", extension="raw")
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    planes = np.frombuffer(codec_for(entry, grey).encode(grey, 1), np.uint8).reshape(3, 16, 16)
    assert np.array_equal(planes[0], grey[:, :, 0])
    assert np.abs(planes[1:].astype(int) - 128).max() <= 1
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    y, cb, cr = codec_for(entry, red).encode(red, 1)
    assert (y, cb, cr) == (round(255 * 0.2126), round(127.5 - 127.5 * 0.2126 / 0.9278), 255)
    x = photograph(24, 32, seed=2)
    codec = codec_for(entry, x)
    assert np.abs(codec.decode(codec.encode(x, 1)).astype(int) - x).max() <= 2


def test_no_shell_reads_a_line_and_no_secret_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    mark = tmp_path / "mark"
    tell = "import os, sys; open(sys.argv[2], 'w').write(repr((sys.argv[3:], sorted(os.environ))))"
    entry = made_with("encode", sys.executable, "-c", tell, "{input}", "{output}", "{quality}", f"$(touch {mark});")
    said = codec_for(entry, np.zeros((8, 8, 3), np.uint8)).encode(np.zeros((8, 8, 3), np.uint8), 7).decode()
    assert f"['7', '$(touch {mark});']" in said and "AWS_SECRET_ACCESS_KEY" not in said
    assert not mark.exists()


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        ("import sys; sys.exit('no memory')", r"ended with exit code 1 \(no memory\), expected 0 and a file"),
        ("pass", r"ended with exit code 0 \(\), expected 0 and a file"),
        ("import time; time.sleep(60)", r"ran for 0.5 s, expected an end before timeout_s"),
        ("import sys; open(sys.argv[2], 'wb').truncate(1 << 20)", r"wrote 1048576 bytes, expected at most"),
    ],
    ids=["error", "no-file", "timeout", "too-large"],
)
def test_a_program_that_fails_is_one_line(
    encode: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    x = np.zeros((8, 8, 3), np.uint8)
    timeout_s = 0.5 if "sleep" in encode else 60.0
    with pytest.raises(DataError, match=message) as caught:
        codec_for(made(encode, timeout_s=timeout_s), x).encode(x, 50)
    assert caught.value.reason == "codec-failed" and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_decoded_picture_of_another_size_is_refused() -> None:
    smaller = "import sys; from PIL import Image; Image.new('RGB', (4, 4)).save(sys.argv[2], 'PNG')"
    x = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(DataError, match="wrote 4 x 4 px, expected the original's size"):
        codec_for(made(COPY, smaller), x).decode(b"file")


def test_a_missing_program_is_named() -> None:
    entry = made_with("encode", "no-such-encoder", "{input}", "{output}", "{quality}")
    assert missing_programs(entry) == ("no-such-encoder",)
    assert missing_programs(made(COPY)) == ()
    x = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(DataError, match="no-such-encoder not found") as caught:
        codec_for(entry, x).encode(x, 50)
    assert caught.value.reason == "no-program"


def test_a_quality_beyond_the_ends_is_refused() -> None:
    x = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ConfigError, match="made quality: got 96, expected 1 to 95"):
        codec_for(made(COPY), x).encode(x, 96)
