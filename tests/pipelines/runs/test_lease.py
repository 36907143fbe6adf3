"""The lease of a workspace on local folders and on S3: races, dead holders, outages and loss."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hfd.config import LeaseConfig
from hfd.errors import DataError, HfdError
from hfd.io.storage import Folder
from pipelines.context import Context
from pipelines.engine.inline import Inline
from pipelines.runs.compare_and_swap import S3CasObject, open_cas_object
from pipelines.runs.lease import NAME, Holder, acquire, lease
from pipelines.runs.step import Outcome, Step
from tests.support.lease_worker import QUICK
from tests.support.paths import ROOT
from tests.support.tiny_run import tiny_config, tiny_overrides, write_photographs

pytestmark = pytest.mark.integration


@pytest.fixture
def launched() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(launched: list[subprocess.Popen[str]], task: str, workspace: Folder, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.lease_worker", task, workspace.uri, str(folder)],
        cwd=ROOT,
        env=os.environ | {"ROUNDS": "4"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    launched.append(process)
    return process


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def in_cell(workspace: Folder) -> dict[str, Any]:
    found = open_cas_object(workspace, NAME).read()
    assert found is not None
    return dict(json.loads(found.data)) if found.data else {}


# --- who holds ---------------------------------------------------------------------------------------


def test_the_second_run_gets_the_holder_and_its_start(workspace: Folder) -> None:
    with lease(workspace, LeaseConfig(name="night run")) as held:
        assert held is not None
        started = in_cell(workspace)["started"]
        with pytest.raises(HfdError) as caught:
            acquire(workspace, LeaseConfig())
        held.check()
    text = str(caught.value)
    assert text.startswith(f"workspace: got {workspace.uri}, held by night run on ")
    assert f"(process {os.getpid()}) since {started}, expected a free one." in text and "\n" not in text
    assert in_cell(workspace) == {}
    acquire(workspace, LeaseConfig()).stop()


def test_without_use_nothing_is_written(workspace: Folder) -> None:
    with lease(workspace, LeaseConfig(use=False)) as held:
        assert held is None
    assert not workspace.exists(NAME)


def test_a_lease_of_another_machine_ends_only_with_its_time(workspace: Folder) -> None:
    """The holder's own setting counts, and its clock does not."""
    other = replace(
        Holder.of_this_process(LeaseConfig()), machine="elsewhere", pid=1, started="2199-01-01T00:00:00+00:00"
    )
    cas = open_cas_object(workspace, NAME)
    version = cas.swap(replace(other, expires_s=3600.0).encode(), None)
    with pytest.raises(HfdError, match=r"since 2199-01-01T00:00:00\+00:00.*its lease ends in 3[56]\d\d s"):
        acquire(workspace, LeaseConfig(expires_s=0.4, heartbeat_s=0.1))
    cas.swap(replace(other, expires_s=0.5).encode(), version)
    while True:
        try:
            acquire(workspace, LeaseConfig()).stop()
            break
        except HfdError:
            time.sleep(0.2)


def test_contents_that_say_nothing_hold_for_a_while(workspace: Folder) -> None:
    open_cas_object(workspace, NAME).swap(b"[]", None)
    with pytest.raises(HfdError, match="held by a lease of another version"):
        acquire(workspace, LeaseConfig())


def test_a_holder_is_read_as_it_was_written() -> None:
    holder = Holder.of_this_process(LeaseConfig(name="x"))
    found = Holder.decode(holder.encode())
    assert found is not None and asdict(found) == asdict(holder)


# --- processes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("round_", range(3))
def test_of_many_that_try_at_once_exactly_one_holds(
    workspace: Folder, tmp_path: Path, launched: list[subprocess.Popen[str]], round_: int
) -> None:
    if round_:  # from the second on, of a lease that expired
        dead = replace(Holder.of_this_process(LeaseConfig()), machine="elsewhere", expires_s=-1e9)
        open_cas_object(workspace, NAME).swap(dead.encode(), None)
    processes = [start(launched, "grab", workspace, tmp_path) for _ in range(6)]
    (tmp_path / "go").touch()
    said = []
    for process in processes:
        assert process.stdout is not None
        said.append(process.stdout.readline().strip())
    (tmp_path / "done").touch()
    assert sorted(said) == ["mine", *["refused"] * 5]


def test_runs_that_race_for_a_workspace_never_meet(
    workspace: Folder, tmp_path: Path, launched: list[subprocess.Popen[str]]
) -> None:
    processes = [start(launched, "race", workspace, tmp_path) for _ in range(5)]
    for process in processes:
        out, err = process.communicate()
        assert (process.returncode, out, err) == (0, "4\n", "")


def test_a_killed_holder_on_this_machine_is_followed_at_once(
    workspace: Folder, tmp_path: Path, launched: list[subprocess.Popen[str]]
) -> None:
    holder = start(launched, "hold", workspace, tmp_path)
    wait_for(tmp_path / "held", holder)
    with pytest.raises(HfdError, match="held by holder on"):
        acquire(workspace, LeaseConfig())
    holder.kill()
    holder.wait()
    acquire(workspace, LeaseConfig()).stop()


def test_a_holder_that_falls_silent_is_followed_and_stops_when_it_wakes(
    workspace: Folder, tmp_path: Path, launched: list[subprocess.Popen[str]]
) -> None:
    holder = start(launched, "hold", workspace, tmp_path)
    wait_for(tmp_path / "held", holder)
    time.sleep(2 * QUICK["expires_s"])
    with pytest.raises(HfdError, match="held by holder on"):  # its heartbeat is heard
        acquire(workspace, LeaseConfig())
    holder.send_signal(signal.SIGSTOP)
    while True:
        try:
            follower = acquire(workspace, LeaseConfig(name="follower"))
            break
        except HfdError:
            time.sleep(0.1)
    holder.send_signal(signal.SIGCONT)
    out, err = holder.communicate()
    assert (holder.returncode, err) == (2, "")
    assert out.startswith(f"workspace: {workspace.uri} was taken over by follower on ") and out.count("\n") == 1
    follower.check()  # what the other left on its way out was not this lease
    follower.stop()


# --- loss ------------------------------------------------------------------------------------------------


def test_no_manifest_is_written_after_a_loss(workspace: Folder, tmp_path: Path) -> None:
    step = Step("prepare", workspace, {}, {})
    config = tiny_config(tmp_path, tmp_path)

    def work(folder: Folder, _run: object) -> Outcome:
        folder.write("part", b"done")
        found = open_cas_object(workspace, NAME).read()
        assert found is not None
        thief = replace(Holder.of_this_process(LeaseConfig(name="thief")), token="other")
        assert open_cas_object(workspace, NAME).swap(thief.encode(), found.version) is not None
        return Outcome("digest", {})

    with pytest.raises(HfdError, match="was taken over by thief on"), lease(workspace, LeaseConfig()) as held:
        assert held is not None
        Context(config, workspace, Inline(config.cluster), guard=held.check).do(step, work)
    assert step.manifest() is None and step.folder.read("part") == b"done"
    assert in_cell(workspace)["name"] == "thief"


def test_an_outage_is_borne_until_the_lease_would_have_ended(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr("pipelines.runs.lease.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    held = acquire(s3, LeaseConfig(**QUICK))

    def away(*_: object) -> None:
        raise DataError("s3://x: no answer", reason="connection")

    monkeypatch.setattr(S3CasObject, "swap", away)
    held.check()
    now_s[0] = QUICK["expires_s"] + 0.1
    with pytest.raises(HfdError, match=r"could not be renewed \(s3://x: no answer\)"):
        held.check()


# --- the command -----------------------------------------------------------------------------------------


def test_of_two_commands_one_runs_and_the_other_names_its_holder(tmp_path: Path) -> None:
    workspace = Folder(str(tmp_path / "workspace"))
    overrides = tiny_overrides(write_photographs(tmp_path / "photographs", 4), workspace.uri)
    with lease(workspace, LeaseConfig(name="first")):
        for command in ("retrain", "prepare"):
            second = subprocess.run(
                [sys.executable, "-m", "hfd", command, "-c", "demo", *overrides], capture_output=True, text=True
            )
            assert (second.returncode, second.stdout) == (2, "")
            assert second.stderr.startswith(f"hfd: workspace: got {workspace.uri}, held by first on ")
            assert second.stderr.count("\n") == 1
    assert {path.name for path in workspace.path.iterdir()} == {NAME}
