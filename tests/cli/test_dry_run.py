"""``--dry-run`` writes nothing: not in the workspace, the photographs, the registry, the home or the current folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from hfd.io.storage import Folder
from pipelines.tracking.client import open_client
from tests.support.command_line import Hfd
from tests.support.recorded_workspace import copy_recorded
from tests.support.snapshots import snapshot
from tests.support.tiny_run import tiny_overrides

ADVERSARIAL = "decoder.adversarial"
STEPS = ["prepare", "train-autoencoder", "reconstruct", "train-decoder", "finetune-decoder", "evaluate"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that a command could write to: home, current folder, temporary files."""
    for name in ("home", "here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Path:
    """The folder of a registry in SQLite with one model, whose version has no fingerprints in its tags."""
    folder = tmp_path_factory.mktemp("registry")
    client = open_client(f"sqlite:///{folder}/registry.db")
    client.create_registered_model("earlier")
    version = client.create_model_version("earlier", source=model_folder.path.as_uri())
    client.set_registered_model_alias("earlier", "champion", version.version)
    return folder


def read_only(folder: Path) -> None:
    """Take the right to write in a folder; a superuser keeps it, and :func:`snapshot` sees that."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def state(machine: Path) -> dict[str, tuple[int, int, bytes]]:
    """The state of a machine; temporary files may come and go: fingerprints of a registered model need its files."""
    found = snapshot(machine)
    mode, _, data = found["temporary"]
    return {**found, "temporary": (mode, 0, data)}


@pytest.mark.parametrize("workspace", ["absent", "read-only"])
@pytest.mark.parametrize("start", ["random", "folder", pytest.param("registered", marks=pytest.mark.integration)])
def test_a_dry_run_writes_nothing(
    hfd: Hfd, machine: Path, model_folder: Folder, request: pytest.FixtureRequest, workspace: str, start: str
) -> None:
    photographs, kept = copy_recorded(machine)
    settings = []
    if start != "random":
        model = model_folder.uri if start == "folder" else "models:/earlier@champion"
        settings = [f"{stage}.warm_start={model}" for stage in ("autoencoder", "decoder", ADVERSARIAL)]
    registry = machine / "home"
    if start == "registered":
        registry = request.getfixturevalue("registry")
        settings.append(f"tracking.uri=sqlite:///{registry}/registry.db")
    place = kept if workspace == "read-only" else machine / "absent/workspace"
    read_only(kept)
    read_only(photographs)
    for name in ("home", "here", "temporary"):
        read_only(machine / name)
    before = state(machine), snapshot(registry)
    ended = hfd("retrain", "-c", "demo", "--dry-run", *tiny_overrides(photographs, place, *settings))
    assert (ended.code, ended.err) == (0, "")
    planned = [line.split() for line in ended.out.rstrip("\n").split("\n\n")[-1].splitlines()]
    assert [words[0] for words in planned] == STEPS
    all_done = workspace == "read-only" and start == "random"
    assert (planned[-1][1] == "done") == all_done
    assert (state(machine), snapshot(registry)) == before
