"""Codecs that are run as programs, behind the interface of the other baselines."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hfd.errors import ConfigError, DataError
from hfd.image.load import RgbArray, load_rgb

PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
"""Environment variables that programs get: none with a secret."""

MAX_FILE_FACTOR = 16
"""An encoded file of more bytes than this number for each pixel is not read."""

_KR, _KB = 0.2126, 0.0722


@dataclass(frozen=True)
class Programs:
    """A codec that two programs run: the meaning of each field is that of :class:`hfd.config.codecs.ExternalCodec`."""

    name: str
    encode: tuple[str, ...]
    decode: tuple[str, ...]
    smallest: int
    largest: int
    extension: str
    pixels: str = "png"
    timeout_s: float = 600.0


def missing_programs(entry: Programs) -> tuple[str, ...]:
    """Return the programs of an entry that this machine lacks."""
    programs = dict.fromkeys((entry.encode[0], entry.decode[0]))
    return tuple(program for program in programs if shutil.which(program) is None)


@dataclass(frozen=True)
class External:
    """A codec for pictures of one ``size``, (height, width): some decoders write planes without a header."""

    entry: Programs
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """See `Baseline.name`."""
        return self.entry.name

    @property
    def qualities(self) -> range:
        """Qualities from that of the smallest file to that of the largest; these may fall."""
        step = 1 if self.entry.largest >= self.entry.smallest else -1
        return range(self.entry.smallest, self.entry.largest + step, step)

    def encode(self, x: RgbArray, quality: int) -> bytes:
        """See `Baseline.encode`. A program that fails is a :class:`DataError` with ``reason="codec-failed"``."""
        if quality not in self.qualities:
            ends = f"{self.entry.smallest} to {self.entry.largest}"
            raise ConfigError(f"{self.name} quality: got {quality}, expected {ends}. Choose one of these.")
        if x.dtype != np.uint8 or x.shape != (*self.size, 3):
            raise ValueError(f"x: got {x.dtype} {x.shape}, expected uint8 {(*self.size, 3)}")
        written = _to_file(x, self.entry.pixels)
        return self._run(self.entry.encode, written, self.entry.pixels, self.entry.extension, quality)

    def decode(self, data: bytes) -> RgbArray:
        """See `Baseline.decode`. A picture of another size is a :class:`DataError`, too."""
        decoded = self._run(self.entry.decode, data, self.entry.extension, self.entry.pixels)
        x = _from_file(decoded, self.entry.pixels, self.size, self.name)
        if x.shape[:2] != self.size:
            raise self._failed(self.entry.decode, f"wrote {x.shape[1]} x {x.shape[0]} px", "the original's size")
        return x

    def _run(
        self, line: Sequence[str], data: bytes, suffix_in: str, suffix_out: str, quality: int | None = None
    ) -> bytes:
        program = shutil.which(line[0])
        if program is None:
            raise DataError(f"{self.name}: {line[0]} not found, expected it on PATH. Install it", reason="no-program")
        with tempfile.TemporaryDirectory(prefix="hfd-codec-") as folder:
            source, target = Path(folder, f"input.{suffix_in}"), Path(folder, f"output.{suffix_out}")
            source.write_bytes(data)
            values = {
                "{input}": str(source), "{output}": str(target), "{quality}": str(quality),
                "{height}": str(self.size[0]), "{width}": str(self.size[1]), "{programs}": str(Path(program).parent),
            }  # fmt: skip
            arguments = [_filled(argument, values) for argument in line[1:]]
            code, said = _call([program, *arguments], folder, self.entry.timeout_s)
            if code is None:
                raise self._failed(line, f"ran for {self.entry.timeout_s:g} s", "an end before timeout_s")
            if code != 0 or not target.is_file():
                raise self._failed(line, f"ended with exit code {code} ({said})", "0 and a file")
            limit = 4096 + MAX_FILE_FACTOR * self.size[0] * self.size[1]
            if (size := target.stat().st_size) > limit:
                raise self._failed(line, f"wrote {size} bytes", f"at most {limit}")
            return target.read_bytes()

    def _failed(self, line: Sequence[str], got: str, expected: str) -> DataError:
        return DataError(
            f"{self.name}: {line[0]} {got}, expected {expected}. Run it by hand on this picture", reason="codec-failed"
        )


def _call(arguments: Sequence[str], folder: str, timeout_s: float) -> tuple[int | None, str]:
    """Run a program in a folder of its own; return its exit code (None: stopped) and the end of what it said."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    output = Path(folder, "messages")
    try:
        with output.open("wb") as messages:
            process = subprocess.Popen(
                arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages,
                start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        return -1, str(error.strerror)
    try:
        code: int | None = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        # Also the processes that the program started, which could write on.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with output.open("rb") as messages:
        messages.seek(max(0, output.stat().st_size - 200))
        return code, " ".join(messages.read().decode(errors="replace").split())


def _filled(argument: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        argument = argument.replace(name, value)
    return argument


def _to_file(x: RgbArray, pixels: str) -> bytes:
    if pixels == "yuv444":
        return _planes_of(x)
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, pixels.upper())
    return buffer.getvalue()


def _from_file(data: bytes, pixels: str, size: tuple[int, int], name: str) -> RgbArray:
    if pixels != "yuv444":
        return load_rgb(data, name=name, max_pixels=size[0] * size[1])
    if len(data) != 3 * size[0] * size[1]:
        raise DataError(
            f"{name}: got {len(data)} bytes of planes, expected {3 * size[0] * size[1]}. Let the decoder write 4:4:4 "
            "of 8 bits",
            reason="codec-failed",
        )
    return _rgb_of(np.frombuffer(data, np.uint8).reshape(3, *size))


def _planes_of(x: RgbArray) -> bytes:
    """Y, Cb and Cr of 8 bits in full range (ITU-R BT.709), plane by plane."""
    red, green, blue = np.moveaxis(x.astype(np.float64), -1, 0)
    y = _KR * red + (1 - _KR - _KB) * green + _KB * blue
    planes = [y, (blue - y) / (2 * (1 - _KB)) + 127.5, (red - y) / (2 * (1 - _KR)) + 127.5]
    rounded: RgbArray = np.rint(np.clip(planes, 0, 255)).astype(np.uint8)
    return rounded.tobytes()


def _rgb_of(planes: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> RgbArray:
    y, cb, cr = planes.astype(np.float64) - np.array([0.0, 127.5, 127.5])[:, None, None]
    red, blue = y + 2 * (1 - _KR) * cr, y + 2 * (1 - _KB) * cb
    green = (y - _KR * red - _KB * blue) / (1 - _KR - _KB)
    return np.ascontiguousarray(np.rint(np.clip(np.stack([red, green, blue], axis=-1), 0, 255)).astype(np.uint8))
