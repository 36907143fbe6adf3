"""Set metrics of published protocols, from weights by path to rows, notes and names in MLflow, over any parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save

from hfd.config import ClusterConfig
from hfd.config.presets import load_config
from hfd.errors import ConfigError
from hfd.io.storage import Folder
from hfd.metrics.backbones import BACKBONES, BackboneFile, BackboneName
from hfd.metrics.original import Original
from hfd.metrics.set_distances import SET_DISTANCES
from hfd.report.summarise import CurveDistances, gains_over_x_hat
from hfd.report.tables import gain_text
from pipelines.context import Silent
from pipelines.engine.inline import Inline
from pipelines.evaluate.distances import (
    EFFNET,
    FeatureFile,
    MeasuredDistances,
    feature_name,
    measure_distances,
    read_distances,
    write_features,
)
from pipelines.evaluate.measure import Measured, MeasureSettings, PatchFeatures, backbone_files, measure_others
from pipelines.evaluate.results import PartResult, tracked_metrics
from pipelines.evaluate.set_protocols import notes_on_patches, set_protocols
from pipelines.retrain import retrain
from tests.support.backbones import random_inception
from tests.support.command_line import Hfd
from tests.support.pictures import photograph
from tests.support.tiny_run import tiny_config

X_HAT, SAMPLE = ("autoencoder", "x_hat"), ("sample", "1 step")
NETWORKS: tuple[BackboneName, ...] = ("inception", "dinov2", "clip")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> BackboneFile:
    folder, data = tmp_path_factory.mktemp("weights"), save(random_inception())
    (folder / BACKBONES["inception"].file).write_bytes(data)
    return BackboneFile("inception", str(folder), hashlib.sha256(data).hexdigest())


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of few features, whose distances take no time."""
    for name, dimension in {"efficientnet": 40, "inception": 48, "dinov2": 32, "clip": 24}.items():
        monkeypatch.setitem(BACKBONES, name, replace(BACKBONES[name], dimension=dimension))


def images(num: int, patches: int) -> list[Measured]:
    """Images with features of every network; those of CLIP have length 1."""
    found = []
    for index in range(num):
        rng = np.random.default_rng(index)
        features: dict[BackboneName, PatchFeatures] = {}
        for network in (EFFNET, *NETWORKS):
            code = rng.normal(size=(patches, BACKBONES[network].dimension)) + 1.0
            sides = [code + noise * (rng.normal(size=code.shape) + 0.5) for noise in (0.0, 0.4, 0.1)]
            if network == "clip":
                sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
            original, x_hat, sample = (side.astype(np.float32) for side in sides)
            features[network] = PatchFeatures(original, {X_HAT: x_hat, SAMPLE: sample})
        found.append(Measured(f"{index}.png", b"", features))
    return found


def distances_of(
    folder: Folder, measured: list[Measured], *, parts: int, exact: bool, draws: int = 0
) -> MeasuredDistances:
    networks = (EFFNET, *NETWORKS)
    files: Mapping[BackboneName, list[FeatureFile]] = {
        network: [FeatureFile(folder, feature_name(part, parts, network)) for part in range(parts)]
        for network in networks
    }
    for network in networks:
        for part, file in enumerate(files[network]):
            write_features(folder, file.name, measured[part::parts], network)
    return measure_distances(
        Inline(ClusterConfig()), folder, files, [X_HAT, SAMPLE], draws=draws, exact_patches=10_000 if exact else 0,
        num_patches={network: sum(one.num_patches(network) for one in measured) for network in networks},
    )  # fmt: skip


@pytest.mark.usefixtures("narrow")
def test_values_do_not_depend_on_the_parts_or_on_blocks(tmp_path: Path) -> None:
    measured = images(14, 10)
    whole = distances_of(Folder(str(tmp_path / "a")), measured, parts=1, exact=True, draws=5)
    many = distances_of(Folder(str(tmp_path / "b")), measured, parts=5, exact=True, draws=5)
    blocks = distances_of(Folder(str(tmp_path / "c")), measured, parts=5, exact=False, draws=5)
    assert set(whole.num_blocks.values()) == {0} and set(blocks.num_blocks.values()) == {5}
    names = [one.name for one in SET_DISTANCES]
    for curve, found in whole.of_curves.items():
        assert list(found.values) == names
        for name in names:
            value = found.values[name]
            assert value is not None and many.of_curves[curve].values[name] == pytest.approx(value, rel=1e-6)
            in_blocks = blocks.of_curves[curve].values[name]
            if name.startswith("k"):  # the mean of the blocks' unbiased estimates
                assert in_blocks is not None
            else:
                assert in_blocks == pytest.approx(value, rel=1e-3 if name == "cmmd_256" else 1e-6)
        for draws in (found.draws, blocks.of_curves[curve].draws):
            assert list(draws) == names
            for name in names:
                low, high = draws[name].interval()
                assert low < draws[name].value < high
    gains = [gain_text(gain) for gain in gains_over_x_hat(whole.of_curves)]
    assert [line.split(": ")[1].split()[0] for line in gains] == [
        "FD-EffNet", "KD-EffNet", "FID/256", "KID/256", "FD-DINOv2/256", "CMMD/256",
    ]  # fmt: skip
    assert read_distances(Folder(str(tmp_path / "a")), [X_HAT, SAMPLE]) == whole.of_curves


@pytest.mark.usefixtures("narrow")
def test_too_few_patches_have_no_frechet_distance(tmp_path: Path) -> None:
    """FID/256 and FD-DINOv2/256 need a sixteenth of their features: 3 of 48 and 2 of 32."""
    found = distances_of(Folder(str(tmp_path)), images(2, 1), parts=2, exact=True, draws=3).of_curves[SAMPLE]
    assert {name for name, value in found.values.items() if value is None} == {"fid_256"}
    assert set(found.draws) == set(found.values) - {"fid_256"}
    blocks = distances_of(Folder(str(tmp_path)), images(2, 1), parts=2, exact=False).of_curves[SAMPLE]
    assert blocks.values["fid_256"] is None and blocks.values["fd_dinov2_256"] is not None


def test_too_few_patches_are_a_line() -> None:
    config = load_config("score", ["evaluate.data=x", "evaluate.inception=w"]).evaluate
    patches: dict[BackboneName, int] = {"efficientnet": 1280, "inception": 100}
    protocols = set_protocols(config, patches, {"efficientnet": 0, "inception": 0})
    assert notes_on_patches(protocols) == ["FID/256: got 100 patches, expected at least 128; no value"]
    patches = {"efficientnet": 1279, "inception": 2048}
    assert notes_on_patches(set_protocols(config, patches, {"efficientnet": 0, "inception": 0})) == [
        "FD-EffNet: got 1279 patches, fewer than its 1280 features; the value is biased, and comparable over the same "
        "patches only"
    ]


def test_a_picture_has_features_of_every_network_of_the_settings(weights: BackboneFile) -> None:
    settings = MeasureSettings((), 128, ("jpeg",), (), 1 << 20, 1 << 20, baseline_bpp=(1.0,), backbones=(weights,))
    measured = measure_others("a.png", Original(photograph(256, 384)), settings)
    assert settings.networks == ("efficientnet", "inception")
    assert measured.features["inception"].original.shape == (1, 2048)
    assert measured.features["efficientnet"].original.shape == (6 + 2, 1280)
    for one in measured.features.values():
        assert [curve[0] for curve in one.decoded] == ["jpeg", "jpeg"]
        assert all(decoded.shape == one.original.shape for decoded in one.decoded.values())


@pytest.mark.integration
def test_an_evaluation_reports_them_with_their_protocols(weights: BackboneFile, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.fromarray(photograph(256, 256, seed=number)).save(tmp_path / f"pictures/{number}.png")
    config = tiny_config(
        tmp_path / "pictures", tmp_path / "w", "evaluate.model=none", f"evaluate.data={tmp_path}/pictures",
        "evaluate.max_images=null", "evaluate.baselines=[jpeg]", "evaluate.baseline_bpp=[1]",
        f"evaluate.inception={weights.folder}", f"evaluate.inception_sha256={weights.sha256}",
    )  # fmt: skip
    (done,) = retrain(config, Silent())
    facts = done.manifest.facts
    for row in facts["summary"]:
        assert row["fid_256"] is None and np.isfinite(row["kid_256"]) and row["fd_effnet"] > 0
    assert list(facts["protocols"]) == ["fd_effnet", "kd_effnet", "fid_256", "kid_256"]
    assert facts["protocols"]["kid_256"]["num_patches"] == 3
    assert facts["protocols"]["kid_256"]["weights"] == weights.sha256
    text = done.folder.read("summary.txt").decode()
    assert "FID/256: got 3 patches, expected at least 128; no value" in text.splitlines()
    kid = f"weights {weights.sha256[:8]}; 3 patches"
    assert any(line.startswith("KID/256: Inception-v3 of 2015-12-05") and kid in line for line in text.splitlines())
    page = done.folder.read("report.html").decode()
    assert "FID/256: got 3 patches, expected at least 128; no value." in page and ">KID/256</button>" in page
    distances = read_distances(
        done.folder, list(dict.fromkeys((row["system"], row["setting"]) for row in facts["summary"]))
    )
    assert {name for one in distances.values() for name in one.values} == set(facts["protocols"])


def test_names_in_mlflow_differ_with_the_protocol() -> None:
    from hfd.report.content import SummaryRow

    config = load_config("score", ["evaluate.data=x", "evaluate.patch_px=64", "evaluate.inception=w"]).evaluate
    row = SummaryRow("sample", "1 step", 3, {"psnr": 30.0, "fd_effnet": 5.0, "kd_effnet": None, "fid_256": 7.0})
    protocols = set_protocols(config, {}, {"efficientnet": 4, "inception": 0})
    assert tracked_metrics(row, protocols) == {
        "sample 1 step/psnr": 30.0,
        "sample 1 step/fd_effnet 64px 4 blocks": 5.0,
        "sample 1 step/fid_256": 7.0,
        "sample 1 step/images": 3.0,
    }


def test_settings_name_the_weights_and_their_checksums() -> None:
    base = ["evaluate.data=x"]
    assert backbone_files(load_config("score", base).evaluate) == ()
    given = load_config(
        "score", [*base, "evaluate.inception=a", "evaluate.clip=b", f"evaluate.clip_sha256={'ab' * 32}"]
    )
    assert backbone_files(given.evaluate) == (
        BackboneFile("inception", "a", str(BACKBONES["inception"].sha256)),
        BackboneFile("clip", "b", "ab" * 32),
    )
    for name in ("dinov2", "clip"):
        with pytest.raises(ConfigError, match=rf"{name}_sha256: missing with {name}, expected the SHA-256") as caught:
            load_config("score", [*base, f"evaluate.{name}=b"])
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="expected 64 hexadecimal digits"):
        load_config("score", [*base, "evaluate.inception_sha256=abc"])
    keys = load_config("score", base).evaluate.content()
    assert not {"inception", "dinov2", "clip"} & keys.keys()  # earlier workspaces keep their keys


def test_a_wrong_checksum_is_one_line_before_any_picture_is_coded(
    hfd: Hfd, weights: BackboneFile, tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(photograph(64, 64)).save(tmp_path / "pictures/a.png")
    ended = hfd(
        "evaluate", "-c", "score", "evaluate.model=none", f"evaluate.data={tmp_path}/pictures", "cluster.kind=inline",
        f"workspace={tmp_path}/w", "tracking.uri=none", f"evaluate.inception={weights.folder}",
    )  # fmt: skip
    assert ended.code == 2
    (line,) = [line for line in ended.err.splitlines() if "SHA-256" in line]
    assert f"got SHA-256 {weights.sha256}, expected {BACKBONES['inception'].sha256}" in line
    assert "evaluate.inception_sha256" in line


def test_results_of_earlier_versions_are_read() -> None:
    assert PartResult.from_record({"digest": "d", "rejects": [], "patches": 7}).patches == {"efficientnet": 7}
    draws = {"value": 1.5, "draws": [1.0, 2.0]}
    old = {"fd": 1.5, "kd": None, "fd_drawn": draws, "kd_drawn": None}
    found = CurveDistances.from_record(json.loads(json.dumps(old)))
    assert found.values == {"fd_effnet": 1.5, "kd_effnet": None} and list(found.drawn) == ["FD-EffNet"]
