"""The worst and best pictures, against a plain sort of all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hfd.report.extremes import NUM_EXTREMES, extremes_of_row


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("metric", "sign"), [("psnr", 1.0), ("lpips", -1.0)])
def test_they_are_the_ends_of_the_sorted_pictures(metric: str, sign: float, seed: int) -> None:
    """With equal values, unknown ones and infinite ones."""
    rng = np.random.default_rng(seed)
    values = rng.choice([1.0, 2.0, 2.5, 3.0, math.inf, math.nan], 60)
    names = [f"{number:02}.png" for number in rng.permutation(60)]
    (found,) = extremes_of_row("row", names.__getitem__, {metric: values})
    known = [(sign * value, name) for value, name in zip(values, names, strict=True) if not math.isnan(value)]
    ordered = [(name, sign * score) for score, name in sorted(known)]
    assert found.worst == tuple(ordered[:NUM_EXTREMES]) and found.best == tuple(ordered[::-1][:NUM_EXTREMES])


def test_an_energy_is_best_at_one() -> None:
    values = np.array([0.5, 1.01, 4.0, 0.0, 0.9])
    (found,) = extremes_of_row("row", "abcde".__getitem__, {"top_octave_energy": values})
    assert "".join(name for name, _ in found.worst) == "dcaeb" and "".join(name for name, _ in found.best) == "beacd"


def test_metrics_without_a_direction_or_a_value_have_no_list() -> None:
    columns = {"bpp": np.ones(3), "encode_s": np.ones(3), "ms_ssim": np.full(3, np.nan), "psnr": np.ones(3)}
    assert [one.metric for one in extremes_of_row("row", "abc".__getitem__, columns)] == ["psnr"]


def test_only_names_near_the_ends_are_read() -> None:
    read = []

    def name_of(place: int) -> str:
        read.append(place)
        return str(place)

    extremes_of_row("row", name_of, {"psnr": np.random.default_rng(0).permutation(10_000).astype(float)})
    assert len(read) == 2 * NUM_EXTREMES
