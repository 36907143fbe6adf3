"""``evaluate.engine``: the engine that is asked for runs, and a wrong one is refused before any step starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfd.config.presets import load_config
from hfd.errors import ConfigError
from pipelines.context import Silent
from pipelines.evaluate.measure import load_codec
from pipelines.retrain import retrain
from tests.support.tiny_run import tiny_config, write_photographs


@pytest.mark.integration
def test_either_engine_measures_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    loaded: list[object] = []

    def load(uri: str, device: str, engine: object) -> object:
        loaded.append(engine)
        return load_codec(uri, device, engine)  # type: ignore[arg-type]

    monkeypatch.setattr("pipelines.evaluate.step.load_codec", load)
    photographs = write_photographs(tmp_path / "photographs", count=4)
    files = []
    for engine in ("onnx", "torch"):
        config = tiny_config(
            str(photographs), tmp_path / "runs", f"evaluate.engine={engine}", "autoencoder.warm_start=desk-025",
            "autoencoder.frozen=true", "evaluate.baselines=[]",
        )  # fmt: skip
        done = retrain(config, Silent())
        assert [one.step.name for one in done if not one.skipped][-1] == "evaluate"
        assert done[-1].manifest.facts["engine"] == engine
        files.append({path.name: path.read_bytes() for path in Path(done[-1].folder.uri, "files").iterdir()})
    assert set(loaded) == {"onnx", "torch"}
    assert files[0] == files[1] and files[0]


def test_onnx_is_refused_for_workers_with_gpus() -> None:
    with pytest.raises(ConfigError, match=r"evaluate.engine: got onnx with cluster.map_gpus=1, expected auto or torch"):
        load_config("score", ["evaluate.data=d", "evaluate.engine=onnx", "cluster.map_gpus=1"])


def test_keys_of_evaluations_that_do_not_set_it_stay() -> None:
    assert "engine" not in load_config("score", ["evaluate.data=d"]).evaluate.content()
    assert load_config("score", ["evaluate.data=d", "evaluate.engine=torch"]).evaluate.content()["engine"] == "torch"
