"""Batches in several processes: the same lines and files as in one, and what a killed or a stopped one leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from hfd.cli import capacity
from hfd.cli.batch import plan
from hfd.cli.capacity import PIXELS_A_PROCESS, Memory, limits_for, memory_with
from hfd.cli.convert import Convert, Ended, Existing, Job, Source, convert_file
from hfd.cli.processes import Limits, in_processes
from hfd.cli.run import run
from hfd.errors import BatchError, BitstreamError, ConfigError
from tests.support.paths import ROOT


def cost(_job: Job) -> int:
    return 100


TWO = Limits(2, None, cost)
NAMES = "abcdefgh"


@dataclass(frozen=True)
class Rule:
    """Doubles a file after a time by its letter; ``die``, ``fail`` and ``mistake`` name files."""

    die: str = ""
    fail: str = ""
    mistake: str = ""

    def __call__(self, source: Source, name: str) -> tuple[Iterable[bytes] | None, str]:
        stem = Path(name).stem
        time.sleep(0.02 * (NAMES.index(stem) % 3))
        if stem == self.mistake:
            raise ConfigError("sampler: got x, expected y")
        if stem == self.die:
            os.kill(os.getpid(), signal.SIGKILL)
        if stem == self.fail:
            print(f"note about {stem}", file=sys.stderr)
            raise BitstreamError(f"{name}: got nonsense, expected sense")
        assert isinstance(source, Path)
        return [source.read_bytes() * 2], "done"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in NAMES:
        (tmp_path / "in" / f"{name}.png").write_bytes(name.encode())
    return tmp_path / "in"


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def ran(folder: Path, output: Path, convert: Convert, limits: Limits | None) -> str:
    batch = plan([str(folder)], str(output), wanted=(".png",), suffix=".hfd")
    try:
        run(batch, convert, label="x", existing=Existing(), limits=limits)
    except BatchError as error:
        return str(error)
    return ""


def test_lines_files_and_failures_are_those_of_one_process(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.hfd").write_bytes(b"kept")
    shown = []
    for number, limits in enumerate((None, TWO, Limits(3, None, cost))):
        out = tmp_path / f"out{number}"
        ended = ran(folder, out, Rule(fail="c"), limits)
        said = capsys.readouterr()
        shown.append((ended, said.out.replace(str(out), "out"), said.err, outputs(out)))
    assert shown[0] == shown[1] == shown[2]
    assert shown[0][0] == "1 of 8 failed" and len(shown[0][3]) == 7
    assert shown[0][2].splitlines()[:2] == ["note about c", f"hfd: {folder}/c.png: got nonsense, expected sense"]


def test_a_killed_process_costs_its_own_file_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(folder, tmp_path / "out", Rule(die="d"), TWO) == "1 of 8 failed"
    assert capsys.readouterr().err == (
        f"hfd: {folder}/d.png: got a process that was killed (SIGKILL), expected it to finish. It most likely lacked "
        "memory: give fewer --jobs\n"
    )
    assert sorted(outputs(tmp_path / "out")) == [f"{name}.hfd" for name in NAMES if name != "d"]


def test_a_process_that_is_killed_while_idle_costs_nothing(folder: Path, tmp_path: Path) -> None:
    jobs = [Job(folder / f"{name}.png", tmp_path / name) for name in "abc"]
    work = partial(convert_file, convert=named, existing=Existing())
    outcomes = in_processes(jobs, work, Limits(1, None, cost))
    first = next(outcomes)
    assert isinstance(first.ended, Ended)
    os.kill(int(str(first.ended.line).rpartition(" ")[2]), signal.SIGKILL)
    time.sleep(0.2)
    rest = list(outcomes)
    assert [type(one.ended) for one in rest] == [Ended, Ended]


def named(_source: Source, _name: str) -> tuple[list[bytes], str]:
    return [b""], str(os.getpid())


def test_a_mistake_of_usage_ends_all(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^sampler"):
        ran(folder, tmp_path / "out", Rule(mistake="b"), TWO)
    assert not any(name.startswith(".") for name in outputs(tmp_path / "out"))


def crash(job: Job) -> None:
    raise KeyError(str(job.source))


def test_a_bug_is_raised_with_its_traceback(folder: Path) -> None:
    jobs = [Job(folder / "a.png", folder / "a.hfd")] * 2
    with pytest.raises(RuntimeError, match=r"(?s)an error in a process\n.*in crash.*KeyError"):
        list(in_processes(jobs, crash, TWO))  # type: ignore[arg-type]


def meet(_source: Source, _name: str, *, room: Path) -> tuple[list[bytes], str]:
    """Count the processes that work at this moment, by files in a room."""
    mine = room / str(os.getpid())
    mine.touch()
    time.sleep(0.3)
    seen = len(list(room.iterdir()))
    mine.unlink()
    return [b""], str(seen)


@pytest.mark.parametrize(("limit", "most"), [(None, 2), (250, 2), (150, 1), (10, 1)])
def test_pictures_that_do_not_fit_together_are_not_processed_together(
    folder: Path, tmp_path: Path, limit: int | None, most: int
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    jobs = [Job(folder / f"{name}.png", tmp_path / "out" / name) for name in NAMES[:5]]
    work = partial(convert_file, convert=partial(meet, room=room), existing=Existing())
    outcomes = list(in_processes(jobs, work, Limits(2, limit, cost)))
    seen = [int(str(outcome.ended.line).rpartition(" ")[2]) for outcome in outcomes]  # type: ignore[union-attr]
    assert len(seen) == 5 and max(seen) == most


STOPPED = """
import os, sys, time
from functools import partial
from pathlib import Path
from hfd.cli.convert import Existing, Job, convert_file
from hfd.cli.processes import Limits, in_processes
from hfd.cli.exit_codes import run_app
from tests.cli.test_processes import slow

folder = Path(sys.argv[1])
jobs = [Job(folder / f"{name}.png", folder / f"{name}.hfd") for name in "abcd"]

def app(*_, **__):
    work = partial(convert_file, convert=slow, existing=Existing())
    for outcome in in_processes(jobs, work, Limits(2, None, lambda _: 0)):
        print(outcome.ended, flush=True)

run_app(app)
"""


def slow(_source: Source, name: str) -> tuple[Iterable[bytes], str]:
    """Write half of an output, tell so, and the other half a minute later."""

    def pieces() -> Iterable[bytes]:
        yield b"half"
        Path(name).with_suffix(".begun").write_text(str(os.getpid()))
        time.sleep(60)
        yield b"whole"

    return pieces(), "done"


@pytest.mark.integration
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_leaves_neither_processes_nor_parts_of_files(
    folder: Path, number: signal.Signals, code: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # A process group of its own: Ctrl-C in a terminal goes to all of them.
    command = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(folder)], env=environment, start_new_session=True, stderr=subprocess.PIPE
    )
    begun = [folder / "a.begun", folder / "b.begun"]
    while not all(path.exists() and path.read_text() for path in begun):
        assert command.poll() is None
        time.sleep(0.05)
    workers = [int(path.read_text()) for path in begun]
    if number == signal.SIGINT:
        os.killpg(command.pid, number)
    else:
        command.send_signal(number)
    _, errors = command.communicate()
    assert command.returncode == code
    assert b"Traceback" not in errors
    assert {path.suffix for path in folder.iterdir()} == {".png", ".begun"}
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


MEMORY = Memory(base=100, per_pixel=2, most=1000)


def jobs_of(folder: Path, count: int) -> list[Job]:
    return [Job(folder / f"{NAMES[i]}.png", None) for i in range(count)]


@pytest.mark.parametrize(
    ("wanted", "count", "pixels", "processes"),
    [
        (None, 4, PIXELS_A_PROCESS, 4),
        (None, 8, PIXELS_A_PROCESS, 4),  # one per core
        (None, 4, PIXELS_A_PROCESS // 2, 2),  # each process has its share of pixels
        (None, 4, PIXELS_A_PROCESS // 4, 1),
        (None, 1, 9 * PIXELS_A_PROCESS, 1),
        (1, 8, PIXELS_A_PROCESS, 1),
        (3, 8, 1, 3),  # as the user asks
        (16, 8, 1, 8),
    ],
)
def test_the_number_of_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wanted: int | None, count: int, pixels: int, processes: int
) -> None:
    monkeypatch.setattr(capacity, "cores", lambda: 4)
    limits = limits_for(jobs_of(folder, count), wanted, MEMORY, lambda _: pixels)
    assert (1 if limits is None else limits.processes) == processes


def test_torch_needs_more_memory() -> None:
    """Peaks of whole processes at 1152 x 896: 525 and 1,115 MB to compress, 579 and 1,277 MB to decompress."""
    pixels = 1152 * 896
    for memory, onnx, torch in ((capacity.COMPRESS, 525e6, 1115e6), (capacity.DECOMPRESS, 579e6, 1277e6)):
        assert onnx <= memory_with("onnx", memory).of(pixels) <= 1.2 * onnx
        assert torch <= memory_with("torch", memory).of(pixels) <= 1.1 * torch


def test_memory_is_bounded_by_what_is_free_and_unreadable_files_count_as_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "available_bytes", lambda: 5000)

    def pixels_of(path: Path) -> int:
        if path.stem == "b":
            raise BitstreamError("not a picture")
        return 200 if path.stem == "a" else 10**9

    limits = limits_for([*jobs_of(folder, 3), Job(folder / "missing.png", None)], 2, MEMORY, pixels_of)
    assert limits is not None and limits.num_bytes == 4000
    costs = [limits.cost_of(job) for job in [*jobs_of(folder, 3), Job(folder / "missing.png", None)]]
    assert costs == [500, 100, 1000, 100]
    monkeypatch.setattr(capacity, "available_bytes", lambda: None)
    unknown = limits_for(jobs_of(folder, 3), 2, MEMORY, pixels_of)
    assert unknown is not None and unknown.num_bytes is None
