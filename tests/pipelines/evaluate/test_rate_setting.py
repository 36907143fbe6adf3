"""Evaluation at another rate id than the model's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfd.codec.container import DEFAULT_RATE, unpack
from hfd.config.presets import load_config
from pipelines.context import Silent
from pipelines.retrain import retrain
from tests.support.tiny_run import tiny_config, write_photographs


def files_of(photographs: Path, workspace: Path, *overrides: str) -> dict[str, bytes]:
    """The evaluation's files by name."""
    config = tiny_config(
        str(photographs), workspace, "autoencoder.warm_start=desk-025", "autoencoder.frozen=true",
        "evaluate.baselines=[]", *overrides,
    )  # fmt: skip
    folder = retrain(config, Silent())[-1].folder
    return {path.name: path.read_bytes() for path in Path(folder.uri, "files").iterdir()}


@pytest.mark.integration
def test_files_have_the_rate_and_coarser_steps_make_them_smaller(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photographs", count=4)
    own, coarse = (files_of(photographs, tmp_path / "runs", *one) for one in ((), ("evaluate.rate=144",)))
    assert own.keys() == coarse.keys() and own
    for name, data in own.items():
        assert unpack(data).rate == DEFAULT_RATE
        assert unpack(coarse[name]).rate == 144
        assert len(coarse[name]) < len(data)


def test_keys_of_evaluations_that_do_not_set_it_stay() -> None:
    assert "rate" not in load_config("score", ["evaluate.data=d"]).evaluate.content()
    assert load_config("score", ["evaluate.data=d", "evaluate.rate=142"]).evaluate.content()["rate"] == 142


@pytest.mark.integration
def test_files_of_refined_latents_are_other_files(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photographs", count=4)
    plain, refined = (files_of(photographs, tmp_path / "runs", *one) for one in ((), ("evaluate.refine=20",)))
    assert plain.keys() == refined.keys() and plain
    assert all(plain[name] != refined[name] for name in plain)


def test_keys_of_evaluations_that_do_not_refine_stay() -> None:
    assert "refine" not in load_config("score", ["evaluate.data=d"]).evaluate.content()
    assert load_config("score", ["evaluate.data=d", "evaluate.refine=20"]).evaluate.content()["refine"] == 20
