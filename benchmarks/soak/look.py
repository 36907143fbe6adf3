"""Read what a week left: outputs and the photo table from S3, the champion and the runs from MLflow."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from typing import Any

import pyarrow.parquet as pq

from benchmarks.faults.parts import Store
from benchmarks.soak.records import Champion, Criterion, Output, PhotoRow, TrackedRun, Verdict, Workspace
from benchmarks.soak.world import MODEL, PHOTOGRAPHS, WORKSPACE, World
from hfd.data.shards import shard_name

_BUCKET = "s3://tests"
_PAGE = 1000


def list_corpus(store: Store) -> dict[str, str]:
    """Return the ETag of each photograph by its name."""
    return {item.key.rpartition("/")[2]: item.etag for item in store.objects(f"{PHOTOGRAPHS}/")}


def read_workspace(store: Store) -> Workspace:
    """Read the outputs of all steps, with their manifests."""
    files: dict[str, dict[str, int]] = defaultdict(dict)
    for item in store.objects(f"{WORKSPACE}/"):
        parts = item.key.removeprefix(f"{WORKSPACE.removeprefix(_BUCKET)[1:]}/").split("/", 2)
        if len(parts) == 3 and parts[0] != "deleting":
            files[f"{parts[0]}/{parts[1]}"][parts[2]] = item.size
    outputs = {name: _output(store, name, found) for name, found in files.items()}
    latest = f"{WORKSPACE}/latest.json"
    exists = any(item.key.endswith("/latest.json") for item in store.objects(latest))
    places = json.loads(store.get(latest)).values() if exists else ()
    return Workspace(outputs, frozenset("/".join(place.split("/")[:2]) for place in places))


def _output(store: Store, name: str, files: dict[str, int]) -> Output:
    if "manifest.json" not in files:
        return Output(name, files)
    found = json.loads(store.get(f"{WORKSPACE}/{name}/manifest.json"))
    return Output(name, files, found["digest"], frozenset(found["inputs"].values()), found["finished"], found["facts"])


def read_photos(store: Store, workspace: Workspace) -> list[PhotoRow]:
    """Read the photo table on which the newest promotion rests; empty if there is none."""
    promotion = workspace.newest("promote")
    needed = workspace.reached([promotion.name]) if promotion is not None else set()
    found = [one for name in needed if (one := workspace.outputs[name]).step == "prepare"]
    if not found:
        return []
    newest = max(found, key=lambda one: one.finished)
    table = pq.read_table(io.BytesIO(store.get(f"{WORKSPACE}/{newest.name}/photos.parquet")))
    count = len({name for name in newest.files if name.startswith("photos/")})
    return [_photo_row(row, count) for row in table.to_pylist()]


def _photo_row(row: dict[str, Any], count: int) -> PhotoRow:
    shard = shard_name(row["split"], row["part"], count) if row["split"] is not None else ""
    return PhotoRow(row["photo"], row["stamp"], row["reason"], shard, row["row"], row["crops"])


def read_verdict(workspace: Workspace) -> Verdict:
    """Read the newest promotion from its manifest."""
    promotion = workspace.newest("promote")
    facts = promotion.facts if promotion is not None else {}
    criteria = [{key: line[key] for key in Criterion.__dataclass_fields__} for line in facts.get("criteria", ())]
    lines = tuple(Criterion(**line) for line in criteria)
    return Verdict(bool(facts.get("promoted")), facts.get("version"), lines)


def read_champion(world: World) -> Champion | None:
    from mlflow import MlflowClient

    client = MlflowClient(world.mlflow.uri)
    if not client.search_registered_models(f"name='{MODEL}'"):
        return None
    version = client.get_registered_model(MODEL).aliases.get("champion")
    if version is None:
        return None
    return Champion(int(version), client.get_model_version(MODEL, str(version)).tags["hfd.digest"])


def count_versions(world: World) -> int:
    from mlflow import MlflowClient

    return len(MlflowClient(world.mlflow.uri).search_model_versions(f"name='{MODEL}'"))


def read_runs(world: World) -> list[TrackedRun]:
    """Read every run of every experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(world.mlflow.uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs, token = [], None
    while token != "":
        page = client.search_runs(experiments, max_results=_PAGE, page_token=token)
        runs += [TrackedRun(one.info.run_id, one.info.status, one.data.tags.get("mlflow.parentRunId")) for one in page]
        token = page.token or ""
    return runs
