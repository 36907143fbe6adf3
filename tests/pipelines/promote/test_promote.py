"""From a finished evaluation to the champion: real models, real files, a real MLflow server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hfd.config import Config
from hfd.errors import ConfigError, HfdError
from hfd.image.load import load_rgb
from pipelines.context import Context, PlannedStep, Silent
from pipelines.corpus.listing import BUILTIN, list_corpus
from pipelines.promote import step as promote
from pipelines.registry.artifacts import FILES
from pipelines.registry.champion import Registry, open_registry
from pipelines.retrain import list_inputs, plan, retrain
from pipelines.runs.step import Done
from pipelines.tracking import link
from tests.support.command_line import Hfd
from tests.support.mlflow_server import Server
from tests.support.tiny_run import tiny_config, tiny_overrides

pytestmark = pytest.mark.integration

POOR = ("autoencoder.warm_start=desk-025", "autoencoder.frozen=true")
"""The shipped autoencoder with a decoder that has hardly been trained."""

FINE = (*POOR, "decoder.warm_start=desk-025", "decoder.frozen=true")
"""The same files with the shipped decoder: nothing is trained."""

MEASURED = (
    "evaluate.bootstrap_draws=50", "evaluate.max_images=6", "evaluate.baselines=[]", "evaluate.num_examples=0",
    "prepare.validation_share=0.6",
)  # fmt: skip
FIRST, SECOND = "is champion, the first: nothing to compare with", "is champion, in place of version"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cuttings of each photograph in the wheels: the shipped model is a good one on nothing but photographs."""
    folder = tmp_path_factory.mktemp("promote") / "photographs"
    folder.mkdir()
    for number, photo in enumerate(list_corpus(BUILTIN, setting="data.uri").photos):
        x = load_rgb(photo.read(), name=photo.key)
        for side, left in (("left", 40), ("right", x.shape[1] - 232)):
            Image.fromarray(x[100:292, left : left + 192]).save(folder / f"{number} {side}.png")
    return folder


@pytest.fixture(scope="module")
def workspace(photographs: Path) -> Path:
    """Shared, so that what is trained and measured is so once; registered models are each test's own."""
    return photographs.parent / "workspace"


Settings = list[str]


@pytest.fixture
def settings(server: Server, request: pytest.FixtureRequest) -> Settings:
    name = f"promote.model={request.node.name}"
    return [f"tracking.uri={server.uri}", name, *MEASURED, "decoder.adversarial=null"]


def configuration(photographs: Path, workspace: Path, settings: Settings, *more: str) -> Config:
    return tiny_config(photographs, workspace, *settings, *more)


def verdict_of(done: Done) -> str:
    return done.folder.read("verdict.txt").decode()


def champion_of(config: Config) -> int | None:
    champion = open_registry(config).champion()
    return champion.number if champion is not None else None


def versions_of(config: Config) -> list[int]:
    registry = open_registry(config)
    return sorted(int(found.version) for found in registry.client.search_model_versions(f"name='{registry.model}'"))


def test_the_first_is_champion_and_only_a_better_one_takes_its_place(
    photographs: Path, workspace: Path, settings: Settings, tmp_path: Path
) -> None:
    poor, fine = (configuration(photographs, workspace, settings, *more) for more in (POOR, FINE))
    first = retrain(poor, Silent())
    assert [done.step.name for done in first][-2:] == ["evaluate", "promote"]
    assert verdict_of(first[-1]).splitlines()[0].endswith(f"version 1 {FIRST}")
    assert champion_of(poor) == 1

    second = retrain(fine, Silent())
    lines = verdict_of(second[-1]).splitlines()
    assert lines[0].endswith(f"version 2 {SECOND} 1")
    assert [line.split("  ")[0] for line in lines[3:]] == [
        "FD-EffNet", "KD-EffNet", "PSNR dB", "bpp", "images", "decodes",
    ]  # fmt: skip
    assert all(line.endswith("pass") for line in lines[3:])
    assert champion_of(fine) == 2 and versions_of(fine) == [1, 2]
    # The champion had been measured on these images: nothing was measured twice, and the report is the candidate's.
    assert len(list(workspace.glob("evaluate/*/manifest.json"))) == 2
    latest = json.loads((workspace / "latest.json").read_text())
    assert latest["report"] == f"evaluate/{second[-2].step.key}/report.html"
    assert latest["model"] == f"train-decoder/{second[-3].step.key}"
    check_record(fine, second)

    # Another workspace, which has neither the champion's weights nor its figures.
    third = retrain(configuration(photographs, tmp_path / "other", settings, *POOR, "seed=2"), Silent())
    lines = verdict_of(third[-1]).splitlines()
    assert (
        lines[0].startswith("not promoted in ")
        and "version 2 remains champion. Failed: FD-EffNet, KD-EffNet" in lines[0]
    )
    assert champion_of(fine) == 2 and versions_of(fine) == [1, 2]
    assert third[-1].manifest.facts["promoted"] is False
    fetched = sorted(path.relative_to(path.parents[1]) for path in tmp_path.glob("other/champion/*/*/*"))
    assert [str(path) for path in fetched if path.suffix != ".onnx"] == sorted(FILES)  # its graphs are made here


def check_record(config: Config, done: list[Done]) -> None:
    """Check the record of version 2 in the registry and in the run."""
    registry = open_registry(config)
    champion = registry.champion()
    assert champion is not None
    model, evaluated, promoted = done[-3:]
    assert champion.digest == model.digest == champion.tags["hfd.digest.train-decoder"]
    assert champion.tags["hfd.key.evaluate"] == evaluated.step.key
    assert json.loads(champion.tags["hfd.config"])["autoencoder"]["warm_start"] == "desk-025"
    samples = [row for row in evaluated.manifest.facts["summary"] if row["system"] == "sample"]
    assert float(champion.tags["hfd.measured.PSNR"]) == pytest.approx(samples[0]["psnr"])
    assert float(champion.tags["hfd.measured.FD-EffNet"]) == pytest.approx(samples[0]["fd_effnet"], rel=1e-6)
    run = registry.client.get_run(champion.run_id)
    assert run.data.tags["hfd.step"] == "promote" and SECOND in run.data.tags["hfd.verdict"]
    assert run.data.metrics["gate/FD-EffNet/difference"] < 0.0
    stored = {entry.path for entry in registry.client.list_artifacts(champion.run_id)}
    assert stored == {"model", "verdict.txt", "facts.json"}
    assert promoted.manifest.facts["version"] == 2


def test_a_compared_model_is_not_compared_again_and_a_rollback_stays(
    photographs: Path, workspace: Path, settings: Settings, hfd: Hfd
) -> None:
    poor, fine = (configuration(photographs, workspace, settings, *more) for more in (POOR, FINE))
    for config in (poor, fine):
        retrain(config, Silent())
    overrides = tiny_overrides(photographs, workspace, *settings, *FINE)
    assert hfd("rollback", "-c", "demo", *overrides).out.startswith(f"{fine.promote.model}: version 1 is champion")

    for command, steps in (("retrain", "all 6 steps are"), ("promote", "promote is")):
        ended = hfd(command, "-c", "demo", *overrides)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(f"nothing to do: {steps} done for these settings and 20 photographs (")
        assert ended.out.count("\n") == 1
    assert champion_of(fine) == 1

    # Measured on fewer images it is judged anew: what was rolled back by hand stays so.
    ended = hfd("retrain", "-c", "demo", *overrides, "evaluate.max_images=3")
    assert ended.code == 0
    assert (
        f"not promoted in {fine.promote.model}, version 1 remains champion. Failed: rolled back as version 2 at"
        in ended.out
    )
    assert champion_of(fine) == 1 and versions_of(fine) == [1, 2]


@pytest.mark.parametrize("moment", ["register", "make_champion", "manifest"])
def test_a_promotion_that_is_broken_off_is_completed(
    photographs: Path, workspace: Path, settings: Settings, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there is a version, before the alias moves, and before the manifest is written."""
    config = configuration(photographs, workspace, [*settings, *POOR], f"promote.model=broken-{moment}")

    class BrokenOffError(Exception):
        pass

    def broken(*_: object, **__: object) -> Any:
        raise BrokenOffError

    with monkeypatch.context() as patch, pytest.raises(BrokenOffError):
        if moment == "manifest":
            patch.setattr(promote, "record_outcome", broken)
        else:
            patch.setattr(Registry, moment, broken)
        retrain(config, Silent())
    assert champion_of(config) == (1 if moment == "manifest" else None)
    assert versions_of(config) == ([] if moment == "register" else [1])
    assert [one.name for one in plan(config, list_inputs(config)) if not one.done] == ["promote"]

    done = retrain(config, Silent())
    assert [one.skipped for one in done] == [True] * 5 + [False]
    assert verdict_of(done[-1]).splitlines()[0].endswith(f"version 1 {FIRST}")
    assert "PSNR dB" in verdict_of(done[-1])
    assert champion_of(config) == 1 and versions_of(config) == [1]


def test_a_server_that_goes_away_is_one_line_and_the_rerun_completes(
    photographs: Path, workspace: Path, settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch, hfd: Hfd
) -> None:
    monkeypatch.setattr(link, "RETRY_SECONDS", (0.01,))
    config = configuration(photographs, workspace, settings, *POOR)
    decodes = promote.first_file_decodes

    def stopping(*arguments: Any) -> bool:
        server.stop()
        return decodes(*arguments)

    try:
        with monkeypatch.context() as patch, pytest.raises(HfdError) as caught:
            patch.setattr(promote, "first_file_decodes", stopping)
            retrain(config, Silent())
        text = str(caught.value)
        assert text.startswith(f"tracking.uri: got {server.uri}, expected its model registry to answer (")
        assert text.endswith("Run the same command again once it does: finished work is kept") and "\n" not in text
        complaint = hfd("retrain", "-c", "demo", *tiny_overrides(photographs, workspace, *settings, *POOR)).complaint
        assert complaint.startswith(f"tracking.uri: got {server.uri}, expected a tracking server that answers")
    finally:
        server.start()
    assert champion_of(config) is None
    done = retrain(config, Silent())
    assert [one.skipped for one in done] == [True] * 5 + [False]
    assert champion_of(config) == 1 and versions_of(config) == [1]


def test_a_lost_workspace_moves_no_alias(
    photographs: Path, workspace: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(photographs, workspace, settings, *POOR)
    plan_promote = promote.plan

    def lost() -> None:
        raise HfdError("workspace: taken over")

    def without_workspace(context: Context, *needed: Done) -> PlannedStep:
        return plan_promote(replace(context, guard=lost), *needed)

    monkeypatch.setattr(promote, "plan", without_workspace)
    with pytest.raises(HfdError, match="taken over"):
        retrain(config, Silent())
    assert champion_of(config) is None and versions_of(config) == []


def test_promote_alone_needs_the_evaluation_and_a_name(photographs: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"^promote.model: missing, expected a value, which hfd promote needs"):
        retrain(tiny_config(photographs, tmp_path), Silent(), only="promote")
    with pytest.raises(ConfigError, match=r"^prepare: not done for these settings"):
        retrain(configuration(photographs, tmp_path, settings), Silent(), only="promote")
    assert not list(tmp_path.iterdir())
