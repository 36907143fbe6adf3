"""The steps of a small run on an attached Ray: how each starts, and the verdict on how it ended.

The words of a verdict on a step in which a fault was injected:

    same      the command ended with exit code 0, and the step's digest is that of the run without faults
    rerun     it stopped, with exit code 2 and one line or killed, and the same command completed it with that digest
    FAILED    anything else
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.faults.parts import Store
from tests.support.tiny_run import tiny_overrides, write_photographs

Name = TypeVar("Name", bound=str)

STEPS = ("prepare", "train-autoencoder", "reconstruct", "train-decoder", "evaluate", "promote")
REFERENCE = "reference"
"""Workspace of the run without faults, in the bucket."""

TRAIN_STEPS = 60


class Registry(Protocol):
    """An MLflow server at ``uri``."""

    uri: str

    def versions(self, model: str) -> list[str]:
        """Return the versions of a registered model with their aliases, such as ``1 champion``."""
        ...


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def is_one_line(self) -> bool:
        return self.code == 2 and self.err.startswith("hfd: ") and len(self.err.splitlines()) == 1


class Running:
    """A command in its own process group."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        out, err = self.process.communicate()
        lines = [line for line in err.splitlines() if "(raylet" not in line and not line.startswith("(pid=")]
        return Ended(self.process.returncode, out, "\n".join(lines))


@dataclass
class Steps:
    """Commands of the steps and what each must leave.

    ``address``: that of the Ray. ``before``: what a command line begins with, such as a program that enters a host.
    ``settings``: of this benchmark. ``expected``: the digest of each step without faults.
    """

    store: Store
    registry: Registry
    address: str
    environment: Mapping[str, str]
    before: Sequence[str] = ()
    settings: Sequence[str] = ()
    expected: dict[str, str] = field(default_factory=dict)

    def start(self, step: str, workspace: str, *more: str) -> Running:
        settings = tiny_overrides(
            "s3://tests/photographs", workspace, f"tracking.uri={self.registry.uri}", "cluster.kind=attach",
            f"cluster.address={self.address}", "prepare.photos_per_shard=2", "prepare.max_reject_share=0.3",
            "evaluate.data=s3://tests/pictures", "evaluate.baselines=[]", "evaluate.max_images=null",
            "autoencoder.train.checkpoint_every_s=0.5", "decoder.train.checkpoint_every_s=0.5",
            "decoder.adversarial=null", f"promote.model={model_of(workspace)}", "evaluate.bootstrap_draws=20",
            *self.settings, *more, steps=TRAIN_STEPS,
        )  # fmt: skip
        return Running([*self.before, sys.executable, "-m", "hfd", step, "-c", "demo", *settings], self.environment)

    def add_pictures(self, folder: Path) -> None:
        """Make the photographs of ``prepare`` and the pictures of ``evaluate``, by way of ``folder``."""
        for name, count in (("photographs", 12), ("pictures", 4)):
            for path in sorted(write_photographs(folder / name, count).iterdir()):
                self.store.put(f"s3://tests/{name}/{path.name}", path.read_bytes())

    def run_undisturbed(self, last: str) -> None:
        """Run the steps up to ``last`` without faults, and keep their digests."""
        for step in STEPS[: 1 + STEPS.index(last)]:
            ended = self.start(step, f"s3://tests/{REFERENCE}").wait()
            if ended.code != 0:
                raise SystemExit(f"the undisturbed {step} failed: {ended.err[-3000:]}")
            (self.expected[step],) = self.store.digests(f"s3://tests/{REFERENCE}", step)

    def copy_before(self, step: str, workspace: str) -> None:
        """Give a workspace the outputs of the steps before ``step``."""
        self.store.copy(REFERENCE, workspace, STEPS[: STEPS.index(step)])

    def when_at_work(self, running: Running, workspace: str, step: str) -> bool:
        """Wait until the step has written something; False if it ended before."""
        marks = "/checkpoints/" if step.startswith("train") else "/parts/"
        while running.process.poll() is None:
            if step == "promote" or any(marks in key for key in self.store.keys(f"{workspace}/{step}/")):
                return True
            time.sleep(0.1)
        return False

    def verdict(self, step: str, workspace: str, first: Ended, *, killed: bool = False) -> tuple[str, str]:
        """Return the outcome of a step that ended, and a message if that is FAILED."""
        if first.code == 0:
            return self._judged(step, workspace, "same", first)
        if not (first.is_one_line or killed):
            return "FAILED", f"exit code {first.code}: {first.err[-3000:]}"
        again = self.start(step, workspace).wait()
        if again.code != 0:
            return "FAILED", f"first: {first.err[-1500:]}\nrerun: {again.err[-1500:]}"
        return self._judged(step, workspace, "rerun", first)

    def _judged(self, step: str, workspace: str, word: str, first: Ended) -> tuple[str, str]:
        found = self.store.digests(workspace, step)
        if found != [self.expected[step]]:
            return "FAILED", f"digests {found}, expected {self.expected[step]}; {first.err[-1500:]}"
        if step == "promote" and (versions := self.registry.versions(model_of(workspace))) != ["1 champion"]:
            return "FAILED", f"versions {versions}"
        return word, first.err


def model_of(workspace: str) -> str:
    """Return the name of the workspace's own registered model."""
    return "hfd-" + workspace.rstrip("/").rpartition("/")[2]


def chosen(text: str, known: Sequence[Name], option: str) -> list[Name]:
    """Return the names of a list with commas. Raises :class:`SystemExit` with one line for an unknown one."""
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"{option}: got {', '.join(unknown)}, expected some of {', '.join(known)}")
    return [one for name in names for one in known if one == name]


def run_matrix(steps: Sequence[str], faults: Sequence[Name], run_cell: Callable[[str, Name], tuple[str, str]]) -> bool:
    """Run a cell for each step and fault, and print each outcome and a table; return True if one FAILED.

    ``run_cell`` returns the outcome of a cell and a message.
    """
    rows = []
    for step in steps:
        row = []
        for fault in faults:
            started = time.monotonic()
            word, detail = run_cell(step, fault)
            row.append(word)
            print(f"{step} x {fault}: {word}, {time.monotonic() - started:.0f} s  {detail}", flush=True)
        rows.append((step, row))
    print(f"\n{table(faults, rows)}")
    return any("FAILED" in row for _, row in rows)


def table(faults: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return the outcomes as a table of Markdown: a row for each step, a column for each fault."""
    lines = ["| step | " + " | ".join(faults) + " |", "| --- |" + " --- |" * len(faults)]
    return "\n".join([*lines, *(f"| {step} | " + " | ".join(row) + " |" for step, row in rows)])
