"""Tracked metrics of an evaluation, and their names."""

from __future__ import annotations

import math

import pytest

from pipelines.evaluate.results import tracked_metrics
from tests.support.report_rows import summary_row


@pytest.mark.parametrize("setting", ["", "50 steps", "50 steps, gamma 0.1, grain", "at most our rate", "a=1 (b)"])
def test_numbers_are_tracked_under_names_that_mlflow_takes(setting: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    found = tracked_metrics(summary_row("sample", setting, 24, 0.12, None, math.inf, 0.9, 0.5, 31.4, None, 0.3, 38.2))
    for name in found:
        _validate_metric_name(name)
    assert {name.rsplit("/")[-1] for name in found} == {
        "bpp", "ms_ssim", "top_octave_energy", "fd_effnet", "encode_s_per_mp", "decode_s_per_mp", "images",
    }  # fmt: skip


def test_settings_stay_apart() -> None:
    def names(setting: str) -> set[str]:
        return set(tracked_metrics(summary_row("sample", setting, 24, 0.12, 0.1, 30.0, 0.9, 0.5, 31.4, 0.1, 0.3, 38.2)))

    assert "sample 50 steps gamma 0.1/psnr" in names("50 steps, gamma 0.1")
    assert not names("50 steps, gamma 0.1") & names("50 steps, gamma 0.3")
