"""The study of the paper's claims uses valid settings only."""

from __future__ import annotations

from argparse import Namespace
from types import ModuleType

import pytest

from hfd.config import Config, SamplerConfig
from hfd.report.content import SummaryRow
from tests.support.report_rows import summary_row
from tests.support.scripts import load_script


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return load_script("docs/study.py")


def row(system: str, setting: str, fd: float) -> SummaryRow:
    return summary_row(system, setting, 2, 0.25, 0.25, 27.0, 0.9, 0.5, fd, 0.1, 1.0, 2.0)


def test_every_part_is_a_configuration_with_its_samplers(study: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Config] = {}

    class Stop(Exception):  # noqa: N818
        pass

    def instead(config: Config, _display: object) -> None:
        seen["config"] = config
        raise Stop

    monkeypatch.setattr(study, "retrain", instead)
    options = Namespace(photos="photos", kodak="kodak", model="desk-025", budget="3 min")
    for part in study.parts("desk-025"):
        with pytest.raises(Stop):
            study.run_part(part, options, "kodak")
        config = seen["config"]
        assert len(config.evaluate.samplers) == len(part.samplers)
        assert all(isinstance(sampler, SamplerConfig) for sampler in config.evaluate.samplers)
        assert config.autoencoder.frozen and config.decoder.adversarial is None
        assert config.decoder.frozen == (part.name == "shipped")


def test_the_table_has_x_hat_once_and_every_decoders_samples(study: ModuleType) -> None:
    results = {
        name: [row("autoencoder", "x_hat", 300.0), row("sample", "1 step", 250.0), row("sample", "8 steps", 200.0)]
        for name in study.KINDS
    }
    rows = study.table(results)
    assert [found.system for found in rows] == ["autoencoder"] + [name for name in study.KINDS for _ in range(2)]
    plot = study.plot_by_steps(results, "fd_effnet", "FD-EffNet")
    assert plot.lstrip().startswith("<?xml") and all(name in plot for name in study.KINDS)
    assert plot == study.plot_by_steps(results, "fd_effnet", "FD-EffNet")
