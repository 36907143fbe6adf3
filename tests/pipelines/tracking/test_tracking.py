"""Runs are recorded truly, on SQLite and over HTTP, and tracking never stops the work it describes."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from hfd.errors import ConfigError
from pipelines.tracking import (
    MetricLogger,
    TrackingSettings,
    link,
    parent_run,
)
from pipelines.tracking.client import open_client
from pipelines.tracking.stale import close_stale, process_tags
from tests.support.mlflow_server import Server, free_port

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(link, "RETRY_SECONDS", (0.01,))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite store for the module: creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/deep er/mlflow.db"


@pytest.fixture
def settings(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> TrackingSettings:
    return TrackingSettings(database, request.node.name, tmp_path.as_uri(), system_metrics=False)


def runs_of(settings: TrackingSettings) -> dict[str, Any]:
    client = open_client(str(settings.uri))
    experiment = client.get_experiment_by_name(settings.experiment)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    points = open_client(uri).get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in points)


def artifacts(uri: str, run_id: str, folder: str | None = None) -> list[str]:
    return [entry.path for entry in open_client(uri).list_artifacts(run_id, folder)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.stop()


def test_parent_and_child_hold_the_logged_values(settings: TrackingSettings, tmp_path: Path) -> None:
    uri = str(settings.uri)
    config = {
        "train": {"steps": 3, "lr": 1e-4, "sizes": (64, 96)},
        "data": {"root": Path("/x")},
        "none": None,
    }
    (tmp_path / "notes.txt").write_text("hello")
    with (
        parent_run(settings, name="night", params=config, tags={"git": "abc"}) as parent,
        parent.child("train_autoencoder", {"long": "y" * 7000}, {"key": "k1"}) as step,
    ):
        step.log_metrics(1, {"train/loss": 2.0, "bad": math.nan})
        step.log_metrics(2, {"train/loss": 1.5})
        assert step.flush()
        step.log_artifact(tmp_path / "notes.txt", folder="docs")
        step.log_artifact(b"{}", name="table.json")
        step.log_image("restored", np.full((8, 8, 3), 7, np.uint8), 2)
    runs = runs_of(settings)
    outer, inner = runs["night"], runs["train_autoencoder"]
    assert outer.data.params == {
        "train.steps": "3",
        "train.lr": "0.0001",
        "train.sizes": "[64, 96]",
        "data.root": "/x",
        "none": "null",
    }
    assert outer.info.status == inner.info.status == "FINISHED"
    assert outer.data.tags["git"] == "abc"
    assert inner.data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert inner.data.tags["hfd.step"] == "train_autoencoder" and inner.data.tags["key"] == "k1"
    assert inner.data.params == {"long": "(7000 characters: see params.yaml)"}
    assert history(uri, step.run_id, "train/loss") == [(1, 2.0), (2, 1.5)]
    assert len(history(uri, step.run_id, "bad")) == 1
    assert artifacts(uri, outer.info.run_id) == ["config.yaml"]
    assert artifacts(uri, step.run_id) == ["docs", "images", "params.yaml", "table.json"]
    assert artifacts(uri, step.run_id, "docs") == ["docs/notes.txt"]
    stored = tmp_path / step.run_id / "artifacts"
    assert (stored / "docs" / "notes.txt").read_text() == "hello"
    assert "y" * 7000 in (stored / "params.yaml").read_text()
    assert "lr: 0.0001" in (tmp_path / outer.info.run_id / "artifacts" / "config.yaml").read_text()


def test_more_params_and_metrics_than_one_call_takes(settings: TrackingSettings) -> None:
    with parent_run(settings, name="big", params={f"p{i}": i for i in range(250)}) as parent:
        for i in range(900):
            parent.log_metrics(i, {"a": float(i), "b": float(-i), "c": 0.5})
    assert len(runs_of(settings)["big"].data.params) == 250
    assert history(str(settings.uri), parent.run_id, "b")[-1] == (899, -899.0)
    assert len(history(str(settings.uri), parent.run_id, "c")) == 900


def test_short_steps_still_get_system_metrics(settings: TrackingSettings) -> None:
    settings = TrackingSettings(settings.uri, settings.experiment, settings.artifact_root, system_metrics=True)
    with parent_run(settings, name="p") as parent, parent.child("short"):
        pass
    metrics = runs_of(settings)["short"].data.metrics
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert not runs_of(settings)["p"].data.metrics


@pytest.mark.parametrize(("error", "status"), [(ValueError("no\nluck"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_an_exception_decides_the_status(settings: TrackingSettings, error: BaseException, status: str) -> None:
    with (
        pytest.raises(type(error)),
        parent_run(settings, name="outer") as parent,
        parent.child("inner") as step,
    ):
        step.log_metrics(1, {"loss": 1.0})
        raise error
    runs = runs_of(settings)
    assert {name: run.info.status for name, run in runs.items()} == {"outer": status, "inner": status}
    expected = {"ValueError: no luck"} if status == "FAILED" else {None}
    assert {run.data.tags.get("hfd.error") for run in runs.values()} == expected
    assert history(str(settings.uri), step.run_id, "loss") == [(1, 1.0)]


ENDLESS = """
import sys, time
from pipelines.tracking import TrackingSettings, parent_run
with parent_run(TrackingSettings(*sys.argv[1:4], False), name="lost") as parent:
    with parent.child("lost step"):
        print("started", flush=True)
        while True:
            time.sleep(1)
"""


def endless(settings: TrackingSettings) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ENDLESS, str(settings.uri), settings.experiment]
    process = subprocess.Popen(
        [*command, str(settings.artifact_root)], cwd=Path.cwd(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    return process


def test_runs_of_a_killed_driver_are_closed_and_those_of_a_living_one_are_not(
    settings: TrackingSettings,
) -> None:
    process = endless(settings)
    try:
        with parent_run(settings, name="second"):
            runs = runs_of(settings)
            assert {runs[name].info.status for name in ("lost", "lost step")} == {"RUNNING"}
        process.kill()  # not reaped yet: the process is a zombie, and its runs are nobody's
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with parent_run(settings, name="third"):
            runs = runs_of(settings)
    finally:
        process.kill()
        process.communicate()
    assert {runs[name].info.status for name in ("lost", "lost step")} == {"KILLED"}
    assert runs["lost"].data.tags["hfd.error"] == f"process {process.pid} ended without closing this run"
    assert runs["second"].info.status == "FINISHED" and runs["third"].info.status == "RUNNING"


def test_a_process_number_that_was_given_again_does_not_keep_a_run_open(settings: TrackingSettings) -> None:
    own = process_tags()
    with parent_run(settings, name="now"):
        client = open_client(str(settings.uri))
        experiment = client.get_experiment_by_name(settings.experiment).experiment_id
        for name, change in (
            ("reused", {"hfd.pid_started": "12.00"}),
            ("elsewhere", {"hfd.pid_started": "12.00", "hfd.host": "another"}),
            ("container", {"hfd.pid_started": "12.00", "hfd.pid_space": "pid:[1]"}),
        ):
            client.create_run(experiment, tags={"mlflow.runName": name, **own, **change})
        with parent_run(settings, name="next"):
            status = {name: run.info.status for name, run in runs_of(settings).items()}
    assert status.pop("reused") == "KILLED"
    assert set(status) == {"elsewhere", "container", "now", "next"} and set(status.values()) == {"RUNNING"}


def test_a_run_that_its_process_closes_meanwhile_stays_closed(
    settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ends the run after another one has listed it as running, and then exits."""
    client = open_client(str(settings.uri))
    experiment = client.create_experiment("of one run")
    ending = client.create_run(experiment, tags=process_tags()).info.run_id

    def ends_now(*_: object) -> bool:
        client.set_terminated(ending, "FINISHED")
        return False

    monkeypatch.setattr("pipelines.tracking.stale.is_alive", ends_now)
    close_stale(client, experiment)
    assert client.get_run(ending).info.status == "FINISHED"


def test_another_process_logs_to_a_step(settings: TrackingSettings) -> None:
    code = """
import pickle, sys
with pickle.load(sys.stdin.buffer).open() as logger:
    logger.log_metrics(4, {"worker/loss": 0.25})
    assert logger.close() == 0
"""
    with parent_run(settings, name="p") as parent, parent.child("s") as step:
        handle = pickle.dumps(step.worker_handle())
        subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), input=handle, check=True)
    assert history(str(settings.uri), step.run_id, "worker/loss") == [(4, 0.25)]


def test_a_pickled_logger_starts_empty_and_works(settings: TrackingSettings) -> None:
    with parent_run(settings, name="p") as parent:
        first = MetricLogger(settings.uri, parent.run_id, flush_seconds=60.0)
        first.log_metrics(1, {"x": 1.0})
        with pickle.loads(pickle.dumps(first)) as second:
            assert second.flush() and history(str(settings.uri), parent.run_id, "x") == []
            second.log_metrics(2, {"x": 2.0})
        assert history(str(settings.uri), parent.run_id, "x") == [(2, 2.0)]
        assert first.close() == 0
    assert history(str(settings.uri), parent.run_id, "x") == [(1, 1.0), (2, 2.0)]


def test_the_queue_empties_by_itself_when_it_is_full_enough(settings: TrackingSettings) -> None:
    with (
        parent_run(settings, name="p") as parent,
        MetricLogger(settings.uri, parent.run_id, 3600.0, 10) as logger,
    ):
        for i in range(10):
            logger.log_metrics(i, {"x": 1.0})
        while len(history(str(settings.uri), parent.run_id, "x")) < 10:
            time.sleep(0.05)
        assert logger.lost == 0


def test_metrics_that_mlflow_refuses_are_counted_and_the_others_are_kept(
    settings: TrackingSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with parent_run(settings, name="p") as parent:
        logger = MetricLogger(settings.uri, parent.run_id)
        bad: dict[str, Any] = {
            "a,b": 1.0,
            "../up": 1.0,
            "/root": 1.0,
            "x" * 251: 1.0,
            "a//b": 1.0,
            "text": "one",
        }
        logger.log_metrics(1, bad | {"good": 3.0})
        assert logger.close() == len(bad)
        logger.log_metrics(2, {"late": 1.0})
        assert logger.lost == len(bad) + 1
        gone = MetricLogger(settings.uri, "0" * 32)
        gone.log_metrics(1, {"a": 1.0, "b": 1.0})
        assert gone.close() == 2
    assert history(str(settings.uri), parent.run_id, "good") == [(1, 3.0)]
    assert f"{len(bad)} metrics of run {parent.run_id} were lost" in caplog.text
    assert f"2 metrics of run {'0' * 32} were lost" in caplog.text


def test_the_buffer_is_bounded_and_its_loss_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    logger = MetricLogger(f"http://127.0.0.1:{free_port()}", "0" * 32, capacity=50)
    for i in range(120):
        logger.log_metrics(i, {"x": 1.0})
    assert not logger.flush(timeout=0.2)
    assert logger.close(timeout=0.2) == 120
    assert f"120 metrics of run {'0' * 32} were lost" in caplog.text


def test_a_full_disk_of_temporary_files_loses_an_artifact_and_stops_nothing(
    settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    with parent_run(settings, name="run") as parent:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", full)
            parent.log_artifact(b"1", name="lost.txt")
        parent.log_artifact(b"2", name="kept.txt")
    assert artifacts(str(settings.uri), parent.run_id) == ["kept.txt"]
    assert "could not store lost.txt (OSError: [Errno 28] No space left on device" in caplog.text
    assert runs_of(settings)["run"].info.status == "FINISHED"


def test_a_deleted_experiment_is_named(settings: TrackingSettings) -> None:
    with parent_run(settings, name="n"):
        pass
    client = open_client(str(settings.uri))
    client.delete_experiment(client.get_experiment_by_name(settings.experiment).experiment_id)
    with (
        pytest.raises(ConfigError, match=r"^tracking\.experiment: got .* deleted"),
        parent_run(settings, name="n"),
    ):
        raise AssertionError("no run can have started")


def test_secrets_reach_neither_params_nor_tags_nor_artifacts(settings: TrackingSettings, tmp_path: Path) -> None:
    secret = "hunter2"
    params = {
        "data": {"root": f"s3://key:{secret}@host/bucket", "roots": [f"https://{secret}@h/x"]},
        "s3": {"secret_access_key": secret, "aws_token": secret, "password": [secret]},
        "link": f"https://h/x?X-Amz-Signature={secret}&part=1",
        "max_tokens": 5,
    }
    with pytest.raises(RuntimeError), parent_run(settings, name="p", params=params) as parent:
        parent.log_tags({"from": f"http://a:{secret}@h/", "api_key": secret})
        raise RuntimeError(f"cannot read https://a:{secret}@h/x")
    run = runs_of(settings)["p"]
    assert run.data.params["max_tokens"] == "5"
    assert run.data.params["link"] == "https://h/x?X-Amz-Signature=***&part=1"
    assert run.data.tags["hfd.error"] == "RuntimeError: cannot read https://***@h/x"
    written = (tmp_path / parent.run_id / "artifacts" / "config.yaml").read_text()
    assert secret not in written + json.dumps(run.data.params) + json.dumps(run.data.tags)


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_loses_nothing(
    server: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server.start()
    settings = TrackingSettings(server.uri, "http", system_metrics=False)
    with parent_run(settings, name="p", params={"a": {"b": 1}}) as parent, parent.child("s") as step:
        step.log_metrics(0, {"x": 0.0})
        step.log_artifact(b"1", name="one.txt")
        step.log_image("im", np.zeros((8, 8), np.uint8), 1)
        assert step.flush()
        server.stop()
        for i in range(1, 1500):
            step.log_metrics(i, {"x": float(i)})
        assert not step.flush(timeout=1.0)
        step.log_tags({"unheard": "1"})  # warns, does not raise
        with parent.child("unrecorded") as unrecorded:
            unrecorded.log_metrics(1, {"x": 1.0})
            assert unrecorded.run_id == ""
        server.start()
        while not step.flush():
            pass
        step.log_tags({"heard": "1"})
    runs = runs_of(settings)
    assert {name: run.info.status for name, run in runs.items()} == {"p": "FINISHED", "s": "FINISHED"}
    assert history(server.uri, step.run_id, "x") == [(i, float(i)) for i in range(1500)]
    assert "unheard" not in runs["s"].data.tags and runs["s"].data.tags["heard"] == "1"
    assert artifacts(server.uri, step.run_id) == ["images", "one.txt"]
    for said in (
        "metrics are kept",
        "could not log tags",
        "could not record step unrecorded",
        "answers again",
    ):
        assert said in caplog.text
    assert "View run" not in capfd.readouterr().out
