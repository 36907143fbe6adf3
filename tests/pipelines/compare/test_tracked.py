"""Evaluations by the id of their MLflow run: from their folder, else from the artifacts of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hfd.errors import HfdError
from hfd.io.storage import Folder
from pipelines.compare.find import find_all
from pipelines.compare.shared import group_by_pictures
from pipelines.compare.tables import tables_of
from pipelines.context import FOLDER_TAG
from pipelines.tracking import TrackingSettings, parent_run
from tests.support.evaluations import JPEG, X_HAT, MadeEvaluation, write_evaluation

pytestmark = pytest.mark.integration

PSNR = {X_HAT: {"a.png": 30.0, "b.png": 20.0}, JPEG: {"a.png": 25.0, "b.png": 18.0}}


def test_a_run_or_its_parent_names_the_evaluation(tmp_path: Path) -> None:
    import json

    folder = write_evaluation(Folder(str(tmp_path / "made")), MadeEvaluation(PSNR))
    settings = TrackingSettings(f"sqlite:///{tmp_path}/mlflow.db", "test", tmp_path.as_uri(), system_metrics=False)
    uri = str(settings.uri)
    with parent_run(settings, name="made") as parent:
        tags = {"hfd.key": folder.uri[-16:], FOLDER_TAG: folder.uri}
        params = {"settings": {"patch_px": 64, "vgg16_sha256": None}, "inputs": {"model": "m"}}
        with parent.child("evaluate", params=params, tags=tags) as step:
            facts = json.loads(folder.read("manifest.json"))["facts"]
            step.log_artifact(json.dumps(facts).encode(), name="facts.json")
            step.log_artifact(folder.read("images.parquet"), name="images.parquet")
        with parent.child("prepare") as other:
            pass
    for run_id in (parent.run_id, step.run_id):
        (found,) = find_all([run_id], uri)
        assert found.folder == folder and found.name == "made"
    with pytest.raises(HfdError, match="got a run without a finished evaluation") as caught:
        find_all([other.run_id], uri)
    assert "\n" not in str(caught.value)
    with pytest.raises(HfdError, match="got no such run from sqlite"):
        find_all(["f" * 32], uri)

    (whole,) = find_all([str(tmp_path / "made")], None)
    shutil.rmtree(tmp_path / "made")
    (found,) = find_all([f"mine={step.run_id}"], uri)
    assert (found.folder, found.name, found.key) == (None, "mine", whole.key)
    assert found.table.equals(whole.table) and found.summary == whole.summary
    (shared,), _ = group_by_pictures([found])
    rows = tables_of(shared)[0][0].rows
    assert [(row.curve, row.row.values["fd_effnet"]) for row in rows] == [("mine: x_hat", 100.0), ("JPEG", 100.0)]
    assert rows[0].protocols["fd_effnet"] == "EfficientNet-Lite0, patches of 64 px"
