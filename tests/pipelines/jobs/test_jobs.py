"""Jobs on a real Ray head: their output and exit codes, also after a lost connection."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.jobs.client import connect, follow
from tests.support.proxy import proxy
from tests.support.ray_head import RayHead, ray_head
from tests.support.tiny_run import tiny_overrides, write_photographs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head(4, {"ON_THE_CLUSTER": "a secret", "OMP_NUM_THREADS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("submitted")
    return tiny_overrides(write_photographs(folder / "photographs"), folder / "work")


def start(head: RayHead, *arguments: str, address: str | None = None, **more: str) -> subprocess.Popen[str]:
    command, *rest = arguments
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **head.environment, **more}
    return subprocess.Popen(
        [sys.executable, "-m", "hfd", command, "-a", address or head.address, *rest],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def run(head: RayHead, *arguments: str, **more: str) -> tuple[int, str, str]:
    process = start(head, *arguments, **more)
    out, err = process.communicate()
    return process.returncode, out, err


def id_in(err: str) -> str:
    found = re.search(r"hfd-[\w.-]+", err)
    assert found is not None, err
    return found[0]


def test_a_job_runs_with_the_files_and_variables_it_was_given(
    head: RayHead, settings: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("extends: demo\nname: mine\nseed: 41\n")
    command = ["retrain", "-c", f"{tmp_path}/mine.yaml", *settings[:1], f"workspace={tmp_path}/w", "tracking.uri=null"]
    options = ["--secret", "ON_THE_CLUSTER", "--env", "COLUMNS=99"]
    code, out, err = run(head, "submit", *options, *command, "--dry-run")
    assert code == 0, (out, err)
    assert "name: mine\nseed: 41\n" in out
    assert "kind: attach\n  address: auto\n" in out
    assert re.search(r"^prepare +would run +.*/w/prepare/", out, re.M)
    assert err.startswith("hfd: started hfd-mine-retrain-")
    assert err.count("\n") == 1

    # once finished, the same command is a new job with a number
    code, _, again = run(head, "submit", *options, *command, "--dry-run")
    assert (code, id_in(again)) == (0, f"{id_in(err)}-2".replace(",", ""))
    code, table, _ = run(head, "jobs")
    assert code == 0
    assert [line.split()[:2] for line in table.splitlines()] == [
        ["id", "status"], [id_in(err), "SUCCEEDED"], [id_in(again), "SUCCEEDED"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "more", "line"),
    [
        ([], ["data.uri=/nowhere"], "hfd: data.uri: /nowhere: got no such folder, expected one that exists\n"),
        (["--secret", "NOT_THERE"], [], "hfd: NOT_THERE: not set in the cluster's environment, expected a value."),
    ],
)
def test_a_mistake_comes_back_as_one_line_and_exit_code_2(
    head: RayHead, settings: list[str], options: list[str], more: list[str], line: str
) -> None:
    code, out, _ = run(head, "submit", *options, "retrain", "-c", "demo", *settings, *more)
    assert code == 2
    assert f"\n{line}" in out
    assert "Traceback" not in out


def test_a_refusal_of_the_server_is_one_line(head: RayHead) -> None:
    for arguments, words in (
        (["stop", "no-such-job"], "no-such-job: got no such job at http"),
        (["jobs"], "refused the token, expected the cluster's. Set RAY_AUTH_MODE=token"),
    ):
        token = {} if arguments[0] == "stop" else {"RAY_AUTH_TOKEN": "another"}
        code, out, err = run(head, *arguments, **token)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_a_live_job_is_found_again_survives_a_cut_line_and_stops(head: RayHead, settings: list[str]) -> None:
    endless = [*settings, "autoencoder.train.budget=1000000 steps", "autoencoder.train.checkpoint_every_s=1"]
    command = ["--patience", "300", "retrain", "-c", "demo", *endless]
    code, name, _ = run(head, "submit", "--detach", *command)
    assert code == 0
    name = name.strip()
    work = Path(next(text for text in settings if text.startswith("workspace=")).removeprefix("workspace="))

    with proxy(int(head.address.rpartition(":")[2])) as line:
        watcher = start(head, "submit", *command, address=f"http://127.0.0.1:{line.port}")
        said = Said(watcher)
        try:
            said.await_line(lambda text: text == f"hfd: {name} is running: attached")
            wait_until(lambda: any(work.rglob("checkpoint-*")), watcher)
            line.cut()
            said.await_line(lambda text: text.endswith("Trying for 300 s more"))
            line.mend()
            said.await_line(lambda text: text.endswith("answers again"))
            watcher.send_signal(signal.SIGINT)
            said.await_line(lambda text: text.startswith(f"hfd: detached; {name} continues."))
            assert watcher.wait() == 130
        finally:
            watcher.kill()
            watcher.wait()
        assert watcher.stdout is not None
        assert watcher.stdout.read().count("Running entrypoint for job") == 1  # nothing shown twice

    assert re.search(rf"^{name} +RUNNING ", run(head, "jobs")[1], re.M)
    assert run(head, "stop", name) == (0, f"{name}: STOPPED\n", "")
    assert run(head, "stop", name) == (0, f"{name}: STOPPED\n", "")
    assert any(work.rglob("checkpoint-*"))
    log = head.log_of(name)
    assert log.splitlines()[-1] == "hfd: stopped. Run the same command again to continue."


@pytest.mark.parametrize("pause_s", [10.2, 10.6])
def test_the_last_lines_after_a_long_silence_are_shown(
    head: RayHead, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)
    code = f"import time, sys; print('begin', flush=True); time.sleep({pause_s}); print('why it failed'); sys.exit(3)"
    server = connect(head.address)
    name = server.client.submit_job(entrypoint=f"{sys.executable} -c {shlex.quote(code)}")
    shown: list[str] = []
    assert follow(server, name, shown.append, lambda _line: None, 300.0) == 3
    assert "".join(shown) == head.log_of(name)
    assert "why it failed" in "".join(shown)


class Said:
    """The lines of standard error as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line.rstrip("\n"))

    def await_line(self, wanted: Callable[[str], bool]) -> None:
        while not any(map(wanted, self._lines)):
            assert self._reader.is_alive(), self._lines
            time.sleep(0.1)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None
        time.sleep(0.2)
