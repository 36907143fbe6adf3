"""Read a finished evaluation from the MLflow run of its step, or of the whole command."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hfd.errors import ConfigError, DataError, HfdError
from hfd.io.storage import Folder
from pipelines.compare.finished import IMAGES, MANIFEST, Finished, read_finished, read_table
from pipelines.context import FOLDER_TAG
from pipelines.evaluate import SPEC
from pipelines.tracking.client import is_missing, open_client
from pipelines.tracking.database import is_file
from pipelines.tracking.link import FIRST_CONTACT_SECONDS, within
from pipelines.tracking.redaction import one_line, redact
from pipelines.tracking.settings import check_uri, database_file

ADDRESS = "MLFLOW_TRACKING_URI"
RUN = "MLflow run "
"""Before the id of a run, in the place of an evaluation without a reachable folder."""


def read_tracked(run_id: str, tracking: str | None) -> Finished:
    """Read the evaluation of an MLflow run: its folder where that is reachable, else the run's artifacts.

    ``tracking``: the server; None: that of ``MLFLOW_TRACKING_URI``. Raises :class:`hfd.errors.HfdError` with one line.
    """
    uri = tracking or os.environ.get(ADDRESS)
    if not uri:
        raise ConfigError(f"{run_id}: got an MLflow run without its server, expected --tracking or {ADDRESS}. Give one")
    check_uri(uri)
    if is_file(uri) and not database_file(uri).exists():
        raise ConfigError(f"--tracking: got {redact(uri)}, expected a database that exists. Correct the path")
    try:
        client = open_client(uri)
        run = client.get_run(run_id) if is_file(uri) else within(FIRST_CONTACT_SECONDS, lambda: client.get_run(run_id))
        step = _evaluation_of(client, run)
        folder = Folder(str(step.data.tags.get(FOLDER_TAG, "")))
        if folder.uri and _is_reachable(folder):
            return read_finished(folder)
        return _of_artifacts(client, step)
    except HfdError:
        raise
    except Exception as error:  # MLflow's, the database's and the network's
        what = "no such run" if is_missing(error) else one_line(error)[:300]
        raise ConfigError(
            f"{run_id}: got {what} from {redact(uri)}, expected a finished evaluation. Correct the id, or --tracking"
        ) from error


def _evaluation_of(client: Any, run: Any) -> Any:
    """Return the run of the evaluate step: the run itself, or the newest finished child."""
    if run.data.tags.get("hfd.step") != SPEC.name:
        found = client.search_runs(
            [run.info.experiment_id],
            f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and tags.`hfd.step` = '{SPEC.name}'",
            order_by=["attributes.start_time DESC"],
        )
        run = next((one for one in found if one.info.status == "FINISHED"), None)
    if run is None or run.info.status != "FINISHED":
        raise ConfigError(
            "MLflow: got a run without a finished evaluation, expected one of hfd retrain or hfd evaluate. A step that "
            "was done before has no run; give the workspace"
        )
    return run


def _is_reachable(folder: Folder) -> bool:
    try:
        return folder.exists(MANIFEST)
    except DataError:
        return False


def _of_artifacts(client: Any, run: Any) -> Finished:
    place = f"{RUN}{run.info.run_id}"
    with tempfile.TemporaryDirectory(prefix="hfd-report-") as scratch:

        def read(run_id: str, name: str) -> bytes:
            return Path(client.download_artifacts(run_id, name, scratch)).read_bytes()

        facts = json.loads(read(run.info.run_id, "facts.json"))
        table = read_table(read(run.info.run_id, IMAGES), f"{place}, {IMAGES}")
    if not isinstance(facts, dict) or "summary" not in facts:
        raise ConfigError(f"{place}: got facts without a summary, expected those of an evaluation")
    params = run.data.params
    settings, inputs = (
        {name.removeprefix(f"{kind}."): value for name, value in params.items() if name.startswith(f"{kind}.")}
        for kind in ("settings", "inputs")
    )
    key = run.data.tags.get("hfd.key", run.info.run_id)
    return Finished("", "", place, key, facts, settings, inputs, "", table)
