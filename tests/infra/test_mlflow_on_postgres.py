"""A retraining against MLflow as the manifest runs it: its tables in PostgreSQL, its artifacts in S3."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from pipelines.context import Silent
from pipelines.registry.artifacts import FILES
from pipelines.registry.champion import open_registry
from pipelines.retrain import retrain
from tests.support.command_line import Hfd
from tests.support.mlflow_server import Server
from tests.support.postgres_server import PostgresServer
from tests.support.s3_server import S3Server
from tests.support.tiny_run import tiny_config, tiny_overrides, write_photographs

pytestmark = pytest.mark.integration

MODEL = "on-postgres"


def keys_of(s3: S3Server, prefix: str) -> set[str]:
    import boto3

    environment = s3.environment
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=prefix)
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def test_a_retraining_tracks_registers_and_promotes(
    mlflow_on_postgres: Server,
    postgres: PostgresServer,
    s3_service: S3Server,
    tmp_path: Path,
    hfd: Hfd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run itself has no credentials of S3 or PostgreSQL: the server holds them."""
    assert "AWS_ACCESS_KEY_ID" not in os.environ and "PGPASSWORD" not in os.environ
    database = mlflow_on_postgres.folder.name
    photographs = write_photographs(tmp_path / "photographs")
    settings = [
        f"tracking.uri={mlflow_on_postgres.uri}", f"promote.model={MODEL}", "evaluate.baselines=[]",
        "decoder.adversarial=null",
    ]  # fmt: skip
    config = tiny_config(photographs, tmp_path / "w", *settings)
    done = retrain(config, Silent())
    assert [one.step.name for one in done][-1] == "promote" and done[-1].manifest.facts["promoted"]

    assert postgres.query(database, "select distinct status from runs") == [("FINISHED",)]
    steps = "select value from tags where key = 'hfd.step'"
    assert {step for (step,) in postgres.query(database, steps)} == {one.step.name for one in done}
    assert postgres.query(database, "select alias, version from registered_model_aliases") == [("champion", 1)]
    losses = "select count(*) from metrics where key = 'loss'"
    assert postgres.query(database, losses)[0][0] > 0

    champion = open_registry(config).champion()
    assert champion is not None and champion.digest == done[-3].digest
    stored = keys_of(s3_service, f"{database}/")
    assert {key.partition(f"{champion.run_id}/artifacts/model/")[2] for key in stored} >= set(FILES)
    assert mlflow_on_postgres.uri not in " ".join(stored)

    # From another workspace, the registered model is fetched through the server and nothing is trained.
    warm = [f"{stage}.{key}" for stage in ("autoencoder", "decoder")
            for key in (f"warm_start=models:/{MODEL}@champion", "frozen=true")]  # fmt: skip
    again = hfd("retrain", "-c", "demo", *tiny_overrides(photographs, tmp_path / "other", *settings, *warm))
    assert again.code == 0, again.err
    assert f"{MODEL} version 1 is the champion already" in again.out

    # Its champion is deleted in MLflow, a person is told so, and the next promotion mends it.
    open_registry(config).client.delete_model_version(MODEL, "1")
    more = hfd("retrain", "-c", "demo", *tiny_overrides(photographs, tmp_path / "w", *settings, "seed=3"))
    assert more.code == 0, more.err
    assert f"promote.model: version 1, the champion of {MODEL}, was deleted: there is none. A promotion" in caplog.text
    assert (
        f"{MODEL} version 2 is champion, in place of version 1, which was deleted: nothing to compare with" in more.out
    )
    assert postgres.query(database, "select alias, version from registered_model_aliases") == [("champion", 2)]


def test_the_password_is_in_no_argument_and_no_log(mlflow_on_postgres: Server, postgres: PostgresServer) -> None:
    assert mlflow_on_postgres.process is not None
    command = Path(f"/proc/{mlflow_on_postgres.process.pid}/cmdline").read_bytes().decode()
    log = (mlflow_on_postgres.folder / "server.log").read_text()
    assert "mlflow" in command and postgres.password not in command + log + shlex.join(os.environ)
