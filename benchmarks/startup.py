"""Whole processes: imports, and compress and decompress of one picture, against another checkout and other formats.

    python -m benchmarks.startup PICTURE [--runs 5] [--before CHECKOUT]

Processes take turns; printed are medians of CPU seconds, of seconds on the clock and of the peak of memory, and their
ratios to those of the checkout ``--before``. Peers are AVIF and WebP by Pillow, and those of the programs cwebp
and cjxl that are installed (Debian's webp and libjxl-tools), each at the quality whose file is nearest to the size of
the .hfd file; the column ``ours`` divides our CPU seconds by theirs. A first round is not counted: it brings the files
into the page cache and compiles all modules, as the installation of a package does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAVE = """
import sys
from PIL import Image
Image.open(sys.argv[1]).convert("RGB").save(sys.argv[2], quality=int(sys.argv[3]))
"""
OPEN = """
import sys
from PIL import Image
Image.open(sys.argv[1]).save(sys.argv[2])
"""


@dataclass(frozen=True)
class Peer:
    """Another format's commands, with places for the fields ``source``, ``target`` and ``quality``."""

    name: str
    suffix: str
    encode: tuple[str, ...]
    decode: tuple[str, ...]

    def encoder(self, source: Path, target: Path, quality: int) -> list[str]:
        return [part.format(source=source, target=target, quality=quality) for part in self.encode]

    def decoder(self, source: Path, target: Path) -> list[str]:
        return [part.format(source=source, target=target) for part in self.decode]


def _by_pillow(suffix: str) -> Peer:
    save = (sys.executable, "-c", SAVE, "{source}", "{target}", "{quality}")
    return Peer("Pillow", suffix, save, (sys.executable, "-c", OPEN, "{source}", "{target}"))


PEERS = (
    _by_pillow(".avif"),
    _by_pillow(".webp"),
    Peer("cwebp", ".webp", ("cwebp", "-quiet", "-q", "{quality}", "{source}", "-o", "{target}"),
         ("dwebp", "-quiet", "{source}", "-o", "{target}")),
    Peer("cjxl", ".jxl", ("cjxl", "--quiet", "-q", "{quality}", "{source}", "{target}"),
         ("djxl", "--quiet", "{source}", "{target}")),
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Of one process: CPU seconds, seconds on the clock, peak of the resident memory in MiB."""

    cpu: float
    wall: float
    memory: float


def cost(command: list[str], checkout: Path) -> Cost:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def keep_compiled(folder: Path) -> None:
    """Let the processes that follow keep compiled modules in a folder, as an installation does for its package."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return f"{names[0] if names else 'unknown'}, {'with' if 'avx512f' in flags else 'without'} AVX-512"


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def hfd(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hfd", *map(str, arguments)]


def nearest_quality(peer: Peer, picture: Path, wanted: int, folder: Path) -> int:
    """The quality whose file is nearest to so many bytes; a program may refuse the lowest ones."""
    sizes, target = {}, folder / f"q{peer.suffix}"
    for quality in range(1, 100, 3):
        if subprocess.run(peer.encoder(picture, target, quality), capture_output=True).returncode == 0:
            sizes[quality] = target.stat().st_size
    return min(sizes, key=lambda quality: abs(sizes[quality] - wanted))


def commands(picture: Path, folder: Path) -> dict[str, list[str]]:
    """By name; files that are read are made here."""
    ours = folder / "a.hfd"
    subprocess.run(hfd("compress", picture, "-o", ours), check=True, stdout=subprocess.DEVNULL)
    found = {
        "python -c pass": python("pass"),
        "import hfd": python("import hfd"),
        "import hfd.api": python("import hfd.api"),
        "import hfd.pillow_plugin": python("import hfd.pillow_plugin"),
        "hfd --version": hfd("--version"),
        "hfd info FILE": hfd("info", ours),
        "hfd compress": hfd("compress", picture, "-f", "-o", folder / "b.hfd"),
        "hfd decompress": hfd("decompress", ours, "-f", "-o", folder / "b.png"),
        "hfd decompress --realism 0": hfd("decompress", ours, "-f", "--realism", 0, "-o", folder / "c.png"),
    }
    for peer in PEERS:
        if shutil.which(peer.encode[0]) is None or shutil.which(peer.decode[0]) is None:
            print(f"{peer.encode[0]}: not installed")
            continue
        quality = nearest_quality(peer, picture, ours.stat().st_size, folder)
        there = folder / f"{peer.name}{peer.suffix}"
        subprocess.run(peer.encoder(picture, there, quality), check=True, capture_output=True)
        found[f"{peer.name} to {peer.suffix}, {there.stat().st_size} bytes"] = peer.encoder(
            picture, folder / f"b{peer.suffix}", quality
        )
        found[f"{peer.name} from {peer.suffix}"] = peer.decoder(there, folder / "d.png")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    arguments = parser.parse_args()
    checkouts = [ROOT] if arguments.before is None else [ROOT, arguments.before.resolve()]
    costs: dict[tuple[str, Path], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        picture, folder = arguments.picture.resolve(), Path(name)
        keep_compiled(folder / "compiled")
        processes = commands(picture, folder)
        size = (folder / "a.hfd").stat().st_size
        for _ in range(arguments.runs + 1):
            for label, command in processes.items():
                for checkout in checkouts if "hfd" in label else [ROOT]:
                    costs.setdefault((label, checkout), []).append(cost(command, checkout))
    print(f"{processor()}; {size} bytes; medians of {arguments.runs}")
    other = "" if arguments.before is None else "   of the other checkout: CPU, clock, memory"
    print(f"{'process':<32} {'CPU s':>7} {'clock s':>8} {'MiB':>6} {'ours':>7}{other}")
    ours = {way: _median(costs[f"hfd {way}", ROOT][1:]).cpu for way in ("compress", "decompress")}
    for label in processes:
        here, *there = (_median(costs[label, checkout][1:]) for checkout in checkouts if (label, checkout) in costs)
        ratios = "".join(f"{a / b:8.3f}" for other in there for a, b in zip(_values(here), _values(other), strict=True))
        way = {"to": "compress", "from": "decompress"}.get(label.split()[1])
        times = f"{ours[way] / here.cpu:6.1f}x" if way else " " * 7
        print(f"{label:<32} {here.cpu:7.3f} {here.wall:8.3f} {here.memory:6.0f} {times} {ratios}")


def _values(one: Cost) -> tuple[float, float, float]:
    return one.cpu, one.wall, one.memory


def _median(costs: list[Cost]) -> Cost:
    cpu, wall, memory = (statistics.median(values) for values in zip(*map(_values, costs), strict=True))
    return Cost(cpu, wall, memory)


if __name__ == "__main__":
    main()
