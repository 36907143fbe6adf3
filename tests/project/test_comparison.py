"""The comparison of decoders uses valid settings, one stage 1, and equal processor time."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hfd.config import Config
from tests.support.scripts import load_script

PACES = {"train-decoder": 0.5, "finetune-decoder": 2.0}
"""Seconds of processor time of a step."""


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    return load_script("docs/comparison.py")


@pytest.fixture
def steps(comparison: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, str]]:
    """The configurations that are run, and their steps; nothing is trained."""
    seen: list[tuple[Config, str]] = []

    def instead(config: Config, step: str) -> SimpleNamespace:
        seen.append((config, step))
        place = SimpleNamespace(uri=f"model-{len(seen)}")
        return SimpleNamespace(folder=place, manifest=SimpleNamespace(facts={"cpu_s_per_step": PACES[step]}))

    monkeypatch.setattr(comparison, "run_step", instead)
    return seen


def test_decoders_differ_in_their_own_settings_alone_and_share_the_time(
    comparison: ModuleType, steps: list[tuple[Config, str]]
) -> None:
    options = comparison.Options("photos", "desk-025", 600.0, 60, ("decoder.train.batch_size=4",))
    common = options.config()
    for kind in comparison.KINDS:
        steps.clear()
        trained = comparison.train(kind, options)
        last = steps[-1][0]
        assert trained.cpu_h == pytest.approx(600.0 / 3600.0)
        for config, _ in steps:
            for section in ("workspace", "seed", "data", "prepare", "autoencoder"):
                assert getattr(config, section) == getattr(common, section)
            assert config.decoder.unet == common.decoder.unet and config.decoder.train.batch_size == 4
        budgets = [
            config.decoder.adversarial.train.budget if step == "finetune-decoder" else config.decoder.train.budget
            for config, step in steps
            if config.decoder.adversarial is None or step == "finetune-decoder"
        ]
        # A training that measures the speed, the training, and its facts again.
        shares = [600.0 / len(kind.trainings) / PACES[step] for _, step in steps[::3]]
        expected = [f"{number} steps" for share in shares for number in (60, int(share), int(share))]
        assert budgets == expected
        evaluated = options.config(*trained.settings, f"evaluate.samplers=[{', '.join(kind.samplers)}]")
        assert evaluated.decoder == last.decoder and len(evaluated.evaluate.samplers) == len(kind.samplers)
        if len(kind.trainings) == 2 and not kind.finetunes:
            distill = last.decoder.distill
            assert "model-2" in (last.decoder.warm_start, distill and distill.teacher)


def test_kinds_of_other_systems_are_those_of_the_presets(comparison: ModuleType) -> None:
    """Weights of their losses, in both."""
    from hfd.config.presets import load_config

    kinds = {kind.name: kind for kind in comparison.KINDS}
    options = comparison.Options("photos", "desk-025", 600.0, 60, ())
    for name, preset in (("GAN after HiFiC", "compare-hific"), ("GAN after PO-ELIC", "compare-po-elic")):
        settings = [setting for setting in kinds[name].trainings[1] if comparison.BEFORE not in setting]
        ours, theirs = options.config(*settings).decoder, load_config(preset).decoder
        assert ours.process == theirs.process and ours.perceptual is not None and theirs.perceptual is not None
        assert ours.perceptual.critic is not None and theirs.perceptual.critic is not None
        narrow = ours.perceptual.critic.channels
        critic = theirs.perceptual.critic.model_copy(update={"channels": narrow})
        assert ours.perceptual == theirs.perceptual.model_copy(update={"critic": critic})


def test_our_losses_are_those_of_the_preset(comparison: ModuleType) -> None:
    """The process and the weights of the losses; the network is that of all decoders."""
    from hfd.config.presets import load_config

    ours = next(kind for kind in comparison.KINDS if kind.name == "critic on features (ours)")
    found = comparison.Options("photos", "desk-025", 600.0, 60, ()).config(*ours.trainings[0]).decoder
    expected = load_config("desk").decoder
    assert (found.process, found.perceptual) == (expected.process, expected.perceptual)
    assert found.perceptual is not None and found.lean is None


def line(comparison: ModuleType, system: str, setting: str = "1 step", **values: str) -> Any:
    return comparison.Line(system, setting, {name: values.get(name, "-") for name in comparison.COLUMNS}, ("1",) * 5)


def test_the_table_has_x_hat_once_and_no_empty_column(comparison: ModuleType) -> None:
    kinds = [line(comparison, system, bpp="0.2", psnr="30") for system in ("x_hat", "one", "x_hat", "other")]
    rows = [
        row.split(" | ") for row in comparison.table([*kinds, line(comparison, "AVIF", bpp="0.3")]).splitlines()[:6]
    ]
    assert rows[0][:5] == ["| system", "setting", "bpp", "PSNR dB", "enc CPU s/MP"]
    assert [row[0] for row in rows[2:]] == ["| x_hat", "| one", "| other", "| AVIF"]
    assert rows[-1][2:4] == ["0.3", "-"]


def test_codecs_are_timed_with_the_programs_that_they_run(comparison: ModuleType) -> None:
    busy = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"]
    assert comparison.cpu_s(lambda: subprocess.run(busy, check=True)) >= 0.3


def test_a_codec_is_timed_near_a_file_size(comparison: ModuleType) -> None:
    from hfd.baselines.pillow_codecs import Jpeg

    x = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert all(cost >= 0.0 for cost in comparison.costs_of(Jpeg(), x, 1))  # no file is that small: the smallest
    encode, decode = comparison.costs_of(Jpeg(), x, 2000)
    assert encode > 0.0 and decode > 0.0
