"""Jobs as they are submitted: upload, refusals and names."""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hfd.config.presets import load_config, preset_folder
from hfd.errors import ConfigError, HfdError
from pipelines.cli import app
from pipelines.jobs import plan as submit
from pipelines.jobs.client import LogPosition
from pipelines.jobs.commands import server_address
from pipelines.jobs.plan import Job, UploadFile, plan_job, read_command
from tests.support.command_line import Hfd

WHERE = ["data.uri=s3://bucket/photos", "workspace=s3://bucket/work", "tracking.uri=http://mlflow:5000"]


def planned(*arguments: str, **options: object) -> Job:
    return plan_job(read_command(typer.main.get_command(app), arguments), **options)  # type: ignore[arg-type]


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", [["-c", "desk"], ["--config", "desk"], ["--config=desk"], ["-cdesk"]])
def test_the_cluster_runs_the_same_command_on_its_own_ray(spelling: list[str]) -> None:
    job = planned("retrain", *WHERE, *spelling, "autoencoder.train.budget=100 steps", "--dry-run")
    assert shlex.split(job.entrypoint) == [
        "exec", "python", "-m", "hfd", "retrain", "-c", "desk", "--dry-run", *WHERE,
        "autoencoder.train.budget=100 steps", "cluster.kind=attach", "cluster.address=auto",
    ]  # fmt: skip


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30))
def test_a_shell_reads_back_the_arguments(text: str) -> None:
    parsed = submit.ParsedCommand("retrain", "desk", (*WHERE, f"tracking.experiment={yaml.safe_dump(text)}"), ())
    try:
        job = plan_job(parsed)
    except ConfigError:
        return  # texts that look like secrets
    settings = shlex.split(job.entrypoint)[7:]
    assert load_config("desk", settings).tracking.experiment == text


def test_settings_given_win_over_the_size_and_the_cluster_over_both() -> None:
    job = planned("retrain", "-c", "coco256", *WHERE, "cluster.train_workers=2", "cluster.kind=local", size="gpu-8")
    cluster = load_config("coco256", shlex.split(job.entrypoint)[7:]).cluster
    assert (cluster.train_workers, cluster.train_gpus, cluster.kind, cluster.address) == (2, 1.0, "attach", "auto")


@pytest.mark.parametrize("size", sorted(path.stem for path in (preset_folder() / "cluster").glob("*.yaml")))
def test_every_size_fits_every_preset(size: str) -> None:
    for preset in ("desk-diffusion", "coco256", "clic"):
        planned("retrain", "-c", preset, *WHERE, size=size)


def test_the_small_batches_of_desk_fit_few_workers() -> None:
    for size in ("cpu-4", "gpu-1"):
        planned("retrain", "-c", "desk", *WHERE, size=size)
    with pytest.raises(ConfigError, match=r"^decoder\.train\.batch_size: got 4, expected at least 8: cluster\."):
        planned("retrain", "-c", "desk", *WHERE, size="gpu-8")


@pytest.mark.parametrize(
    ("arguments", "options", "line"),
    [
        (["compress", "x.png"], {}, "submit: got 'compress', expected one of "),
        (["retrain", "-c", "dsk"], {}, "preset: got 'dsk', expected one of "),
        (["retrain", "-c", "desk", *WHERE, "seed=x"], {}, "seed: got 'x', expected "),
        (
            ["retrain", "-c", "desk", *WHERE],
            {"size": "gpu-9"},
            "--size: got 'gpu-9', expected one of cpu-4, gpu-1, gpu",
        ),
        (["retrain", "-c", "desk", *WHERE[:1]], {}, "workspace: got runs/desk, expected an s3:// prefix, or an abs"),
        (["retrain", "-c", "desk", "data.uri=photos", "workspace=/w"], {}, "data.uri: got photos, expected an s3://"),
        (["evaluate", "-c", "desk", *WHERE, "evaluate.data=k"], {}, "evaluate.data: got k, expected an s3:// prefix"),
        (["retrain", "-c", "desk", *WHERE, "decoder.warm_start=runs/x"], {}, "decoder.warm_start: got runs/x, exp"),
        (
            ["retrain", "-c", "desk-diffusion", *WHERE, "decoder.distill={teacher: runs/x}"],
            {},
            "decoder.distill.teacher: got runs/x, exp",
        ),
        (
            ["retrain", "-c", "score", *WHERE, "evaluate.data=s3://bucket/k", "decoder.blend={model: runs/x}"],
            {},
            "decoder.blend.model: got runs/x, exp",
        ),
        (["retrain", "-c", "desk", *WHERE[:2]], {}, "tracking.uri: got auto with the remote workspace s3://bucket/w"),
        (["retrain", "-c", "desk", *WHERE], {"env": ["NAME"]}, "--env: got 'NAME', expected NAME=VALUE"),
    ],
)
def test_settings_that_cannot_work_on_a_cluster_are_refused_before_the_upload(
    arguments: list[str], options: dict[str, object], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(*arguments, **options)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        *((f"evaluate.{name}=there",) for name in ("data", "vgg16", "inception")),
        *((f"evaluate.{name}=there", f"evaluate.{name}_sha256={'ab' * 32}") for name in ("dinov2", "clip")),
        ("evaluate.decoded=[{name: a, uri: there, bytes: s3://b/a}]",),
        ("evaluate.decoded=[{name: a, uri: s3://b/a, bytes: there}]",),
    ],
)
def test_every_place_of_an_evaluation_must_be_there_on_every_node(given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^evaluate\.[\w.]+: got there, expected an s3:// prefix, or an absolute"):
        planned("retrain", "-c", "desk", *WHERE, "evaluate.data=s3://b/k", *given)


@pytest.mark.parametrize(
    "model", ["desk-012", "desk-025-1bdbc6d0", "/mnt/efs/model", "s3://bucket/model", "models:/m@champion"]
)
def test_paths_that_every_node_may_see_are_let_through(model: str) -> None:
    where = ("data.uri=builtin:photographs", "workspace=/mnt/efs/w", "tracking.uri=http://mlflow:5000")
    planned("retrain", "-c", "desk", *where, f"decoder.warm_start={model}")
    planned("retrain", "-c", "desk", *where, "decoder.warm_start=desk-025", "decoder.frozen=true",
            f"decoder.blend={{model: {model}}}")  # fmt: skip


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_SECRET_ACCESS_KEY=abc", "AWS_ACCESS_KEY_ID=abc", "aws_session_token=abc", "MLFLOW_TRACKING_PASSWORD=abc",
        "HF_TOKEN=abc", "GH_PAT_KEY=abc", "DB_PASSWD=abc", "DB_PASS=abc", "MY_API_KEY=abc", "APIKEY=abc",
        "SERVICE_CREDENTIALS=abc", "SENTRY_DSN=abc", "PRIVATE_KEY=abc", "HTTP_AUTHORIZATION=abc",
        "HARMLESS=AKIAIOSFODNN7EXAMPLE", "HARMLESS=http://user:abc@mlflow:5000", "HARMLESS=-----BEGIN RSA",
        "HARMLESS=https://b.s3/x?X-Amz-Signature=abc", "HARMLESS=ghp_abcdefghijklmnopqrstuvwxyz012345",
    ],
)  # fmt: skip
def test_secrets_are_never_sent_and_never_shown(variable: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned("retrain", "-c", "desk", *WHERE, env=[variable])
    name, _, value = variable.partition("=")
    assert str(caught.value).startswith(f"--env {name}: got what looks like a secret, expected none")
    assert value not in str(caught.value)


@pytest.mark.parametrize(
    "variable",
    ["OMP_NUM_THREADS=1", "AWS_REGION=us-east-1", "NCCL_DEBUG=INFO", "RAY_AUTH_MODE=token", "MONKEY=1", "EMPTY="],
)
def test_other_variables_are_sent(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert planned("retrain", "-c", "desk", *WHERE, env=[variable]).env == {name: value}


@pytest.mark.parametrize("uri", ["http://user:pw@mlflow:5000", "https://mlflow?access_key=pw"])
def test_a_secret_in_a_setting_is_refused_as_an_override_and_in_a_file(tmp_path: Path, uri: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: desk\ntracking: {{uri: '{uri}'}}\n")
    for arguments in (["-c", "desk", *WHERE, f"tracking.uri={uri}"], ["-c", f"{tmp_path}/mine.yaml", *WHERE[:2]]):
        with pytest.raises(ConfigError, match=r"^tracking\.uri: got a password or key in it") as caught:
            planned("retrain", *arguments)
        assert "pw" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_SECRET=abc", "A B", "x; rm", "", "$(id)"])
def test_a_secret_is_named_and_nothing_else(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^--secret: got an invalid name, expected only a variable's name") as caught:
        planned("retrain", "-c", "desk", *WHERE, secrets=[name])
    assert not name or name not in str(caught.value)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_job_that_lacks_a_secret_ends_with_one_line(shell: str) -> None:
    job = planned("retrain", "-c", "desk", *WHERE, secrets=["FIRST", "SECOND"])
    entrypoint = job.entrypoint.replace("exec python -m hfd", "exec echo")
    for given_names, missing in [((), "FIRST"), (("FIRST",), "SECOND"), (("FIRST", "SECOND"), None)]:
        environment = {"PATH": "/usr/bin:/bin", **dict.fromkeys(given_names, "value"), "UNUSED": ""}
        done = subprocess.run([shell, "-c", entrypoint], env=environment, capture_output=True, text=True, check=False)
        if missing is None:
            assert (done.returncode, done.stdout.split()[0]) == (0, "retrain")
        else:
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"hfd: {missing}: not set in the cluster's environment, expected a value")
            assert done.stderr.count("\n") == 1


# --- what is sent --------------------------------------------------------------------------------


def sent_paths(job: Job) -> list[str]:
    return [sent.path for sent in job.upload]


def test_a_preset_by_name_needs_no_upload() -> None:
    assert planned("retrain", "-c", "desk", *WHERE).upload == ()


def test_a_preset_file_is_sent_whole(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: desk\nseed: 3\nautoencoder: {lmbda: 0.01}\n")
    (tmp_path / "sub").mkdir()
    mine = tmp_path / "sub/mine.yaml"
    mine.write_text("extends: ../base.yaml\nname: mine\n")
    job = planned("prepare", "-c", str(mine), *WHERE)
    assert sent_paths(job) == ["mine.yaml"]
    assert shlex.split(job.entrypoint)[4:7] == ["prepare", "-c", "mine.yaml"]
    (tmp_path / "there.yaml").write_bytes(job.upload[0].read())
    assert load_config(str(tmp_path / "there.yaml"), WHERE) == load_config(str(mine), WHERE)
    assert job.upload_bytes == len(job.upload[0].read())


def test_a_checkout_sends_its_code_and_the_weights_that_are_named() -> None:
    sent = sent_paths(planned("retrain", "-c", "desk", *WHERE, code=True))
    assert {
        "pipelines/cli.py",
        "pipelines/jobs/client.py",
        "conf/desk.yaml",
        "conf/cluster/gpu-1.yaml",
        "hfd/report/templates/page.js",
    } < {*sent}
    assert not [
        path for path in sent if "__pycache__" in path or path.startswith(("tests", "docs", "runs", "hfd/pretrained"))
    ]
    warm = sent_paths(planned("retrain", "-c", "desk-012", *WHERE, code=True))
    assert {*warm} - {*sent} == {
        f"hfd/pretrained/desk-025/{part}/{file}"
        for part in ("autoencoder", "decoder", "decoder/critic")
        for file in ("config.json", "weights.safetensors")
    }
    former = ("autoencoder.warm_start=desk-012-46469781", "autoencoder.frozen=true", "decoder.warm_start=null")
    old = sent_paths(planned("retrain", "-c", "desk-012", *WHERE, *former, code=True))
    assert {path.rsplit("/", 2)[0] for path in {*old} - {*sent}} == {"hfd/pretrained/former/desk-012-46469781"}


def test_hidden_files_links_and_other_kinds_of_file_stay(tmp_path: Path) -> None:
    for path in ("hfd/a.py", "hfd/.env", "hfd/.git/x.py", "hfd/key.pem", "pipelines/b.yaml", "hfd/pretrained/m/w.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "hfd/link.py").symlink_to("/etc/passwd")
    assert [sent.path for sent in submit.code_files(tmp_path, [])] == ["hfd/a.py", "pipelines/b.yaml"]


def test_too_much_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    num_bytes = planned("retrain", "-c", "desk-012", *WHERE, code=True).upload_bytes
    monkeypatch.setattr(submit, "MAX_UPLOAD_BYTES", num_bytes + 1)
    planned("retrain", "-c", "desk-012", *WHERE, code=True)
    monkeypatch.setattr(submit, "MAX_UPLOAD_BYTES", num_bytes)
    with pytest.raises(ConfigError, match=r"^upload: got \d+\.\d MiB in \d+ files, .*desk-025/autoencoder/weights"):
        planned("retrain", "-c", "desk-012", *WHERE, code=True)
    assert UploadFile("x", b"abc").num_bytes == 3


# --- names ---------------------------------------------------------------------------------------


def test_the_same_work_has_the_same_name() -> None:
    first = planned("retrain", "-c", "desk", *WHERE)
    assert first.name.startswith("hfd-desk-retrain-")
    same: list[Sequence[str]] = [
        [*WHERE[::-1]],
        [*WHERE, "seed=0"],
        [*WHERE, "cluster.train_workers=3", "cluster.kind=local"],
    ]
    assert {planned("retrain", "-c", "desk", *more).name for more in same} == {first.name}
    assert planned("retrain", "-c", "desk", *WHERE, env=["A=b"], secrets=["C"], size="gpu-1").name == first.name
    assert planned("prepare", "-c", "desk", *WHERE).name != first.name
    assert planned("retrain", "-c", "desk", *WHERE, "--dry-run").name != first.name
    assert planned("retrain", "-c", "desk", *WHERE, "workspace=s3://bucket/other").name != first.name


# --- addresses and logs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_address", "environment", "address"),
    [
        (None, {}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "http://head:8265"}, "http://head:8265"),
        ("head:1", {"RAY_API_SERVER_ADDRESS": "http://other:2"}, "http://head:1"),
        ("https://head/", {}, "https://head"),
    ],
)
def test_addresses(
    monkeypatch: pytest.MonkeyPatch, given_address: str | None, environment: dict[str, str], address: str
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert server_address(given_address) == address


@pytest.mark.parametrize("address", ["ray://head:10001", "http://", "http://head:port", "http://me:pw@head:8265"])
def test_addresses_that_are_no_job_server(address: str) -> None:
    with pytest.raises(HfdError, match=r"^--address: got ") as caught:
        server_address(address)
    assert "pw" not in str(caught.value)


@given(st.text(max_size=60), st.data())
def test_a_log_read_again_from_its_beginning_is_shown_once(log: str, data: st.DataObject) -> None:
    position, shown = LogPosition(), ""
    for end in [*data.draw(st.lists(st.integers(0, len(log)), max_size=4)), len(log)]:
        start = 0
        while start < end:  # one connection, its chunks cut anywhere
            stop = data.draw(st.integers(start + 1, end))
            shown += position.unseen(start, log[start:stop])
            start = stop
    assert shown == log


# --- the command line ----------------------------------------------------------------------------


def test_a_dry_run_prints_the_upload_and_contacts_no_server(hfd: Hfd) -> None:
    ended = hfd("submit", "-a", "http://127.0.0.1:1", "--dry-run", "--env", "A=b", "retrain", "-c", "desk", *WHERE)
    assert (ended.code, ended.err) == (0, "")
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["id", "entrypoint", "environment", "upload"]
    assert "b" not in ended.out.splitlines()[2].split()[1:]


@pytest.mark.parametrize("command", [["submit", "retrain", "-c", "desk", *WHERE], ["jobs"], ["stop", "some-id"]])
def test_a_job_server_that_is_not_there_is_one_line(
    hfd: Hfd, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    assert hfd(*command).complaint.startswith("http://127.0.0.1:1: no job server answers ([Errno 111] ")


def test_a_server_that_accepts_and_never_answers_is_given_up(hfd: Hfd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.jobs.client.CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert hfd("jobs", "-a", address).complaint == f"{address}: no job server answers (timed out)"


@pytest.mark.parametrize("arguments", [["retrain"], ["retrain", "--confg", "desk"], ["retrain", "-c", "desk", "seed"]])
def test_mistakes_of_usage_are_those_of_the_command(hfd: Hfd, arguments: list[str]) -> None:
    assert hfd("submit", *arguments).complaint == hfd(*arguments).complaint


def test_no_command_is_a_mistake(hfd: Hfd) -> None:
    assert "missing argument" in hfd("submit").complaint.lower()
