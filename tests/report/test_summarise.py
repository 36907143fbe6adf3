"""Distances of a small set and of one in blocks, and their rows in the tables."""

from __future__ import annotations

import numpy as np
import pytest

from hfd.metrics.blocks import BlockCollector
from hfd.metrics.bootstrap import drawn
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from hfd.metrics.of_counts import frechet_of_counts, kernel_of_counts
from hfd.report.summarise import (
    CurveDistances,
    CurveRows,
    distances_of_blocks,
    distances_of_images,
    gains_over_x_hat,
    summarise,
)

X_HAT, SAMPLE, OTHER = ("autoencoder", "x_hat"), ("sample", "1 step"), ("sample", "2 steps")


def pictures(num: int = 9, patches: int = 5, dim: int = 6, damage: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    made = {str(i): rng.normal(size=dim) + 0.5 * rng.normal(size=(patches, dim)) for i in range(num)}
    return {name: ((1 - damage) * rows).astype(np.float32) for name, rows in made.items()}


def test_a_small_set_is_measured_by_all_its_patches_and_its_intervals_by_its_images() -> None:
    """Equal to distances of everything, and to paired differences over images."""
    originals = pictures()
    decoded = {X_HAT: pictures(damage=0.4), SAMPLE: pictures(damage=0.1), OTHER: pictures(damage=0.6)}
    found = {curve: distances_of_images(originals, features, 40) for curve, features in decoded.items()}
    rows = np.concatenate(list(originals.values()))
    for curve, features in decoded.items():
        theirs = np.concatenate(list(features.values()))
        assert found[curve].values["fd_effnet"] == pytest.approx(
            frechet_distance(GaussianStats.of(rows), GaussianStats.of(theirs)), rel=1e-7
        )
        assert found[curve].values["kd_effnet"] == kernel_distance(rows, theirs)
    gains = gains_over_x_hat(found)
    assert [(gain.setting, gain.metric) for gain in gains] == [
        (setting, metric) for setting in ("1 step", "2 steps") for metric in ("FD-EffNet", "KD-EffNet")
    ]
    patches = [len(one) for one in originals.values()]
    for metric, distance in (("FD-EffNet", frechet_of_counts), ("KD-EffNet", kernel_of_counts)):
        levels = {
            curve[1]: drawn(distance(rows, np.concatenate(list(features.values())), patches), patches, draws=40)
            for curve, features in decoded.items()
        }
        for gain in gains:
            if gain.metric == metric:
                one = levels[gain.setting].less(levels[X_HAT[1]])
                assert (gain.value, gain.low, gain.high) == (one.value, one.low, one.high)


def test_images_that_a_curve_lacks_are_not_compared() -> None:
    originals, decoded = pictures(), pictures(damage=0.3)
    del decoded["4"]
    found = distances_of_images(originals, decoded, 0)
    rows, theirs = (np.concatenate([side[name] for name in decoded]) for side in (originals, decoded))
    fd, kd = frechet_distance(GaussianStats.of(rows), GaussianStats.of(theirs)), kernel_distance(rows, theirs)
    assert found.values == {"fd_effnet": pytest.approx(fd, rel=1e-7), "kd_effnet": kd} and not found.draws


def test_without_draws_patches_or_a_second_image_there_is_no_interval() -> None:
    originals, decoded = pictures(), pictures(damage=0.3)
    assert distances_of_images(originals, decoded, 0).draws == {}
    one = distances_of_images({"0": originals["0"]}, {"0": decoded["0"]}, 10)
    assert one.values["fd_effnet"] is not None and one.draws == {}
    nothing = {name: rows[:0] for name, rows in decoded.items()}
    assert distances_of_images(nothing, nothing, 10) == CurveDistances({"fd_effnet": None, "kd_effnet": None})
    assert gains_over_x_hat({X_HAT: one, SAMPLE: one}) == [] and gains_over_x_hat({SAMPLE: one}) == []


def test_blocks_give_the_same_frechet_distance_and_draw_from_blocks() -> None:
    originals, decoded = pictures(12), pictures(12, damage=0.3)
    blocks = []
    for start in range(0, 12, 3):
        taker = BlockCollector(6)
        for name in map(str, range(start, start + 3)):
            taker.add(originals[name], decoded[name])
        blocks.append(taker.sums())
    exact, found = distances_of_images(originals, decoded, 30), distances_of_blocks(blocks, 30)
    assert exact.values["fd_effnet"] is not None and found.values["fd_effnet"] == pytest.approx(
        exact.values["fd_effnet"], rel=1e-9
    )
    assert len(found.draws["fd_effnet"].draws) == 30 and len(set(found.draws["fd_effnet"].draws)) > 5
    assert found.draws["kd_effnet"].value == found.values["kd_effnet"]
    assert distances_of_blocks(blocks[:1], 30).draws == {}
    assert distances_of_blocks([], 30) == CurveDistances({"fd_effnet": None, "kd_effnet": None})


def rows_of(system: str, setting: str, bpp: list[float], bpp_est: list[float]) -> CurveRows:
    ones = np.ones(len(bpp))
    columns = {"bpp": np.array(bpp), "bpp_est": np.array(bpp_est), "psnr": ones, "ms_ssim": ones[:1]}
    columns |= {"top_octave_energy": ones, "lpips": ones, "encode_s": ones, "decode_s": 2 * ones}
    return CurveRows(system, setting, len(bpp), 5e5 * len(bpp), columns)


def test_a_row_a_curve_by_system_and_rate() -> None:
    curves = [
        rows_of("autoencoder", "x_hat", [0.2, 0.4], [0.1, 0.3]),
        rows_of("jpeg", "at least", [0.5, 0.6], []),
        rows_of("jpeg", "at most", [0.1], []),
    ]
    distances = {(rows.system, rows.setting): CurveDistances({"fd_effnet": float(i)}) for i, rows in enumerate(curves)}
    found = summarise(curves, distances)
    assert [(row.system, row.setting, row.num_images) for row in found] == [
        ("autoencoder", "x_hat", 2), ("jpeg", "at most", 1), ("jpeg", "at least", 2),
    ]  # fmt: skip
    assert found[0].bpp == pytest.approx(0.3) and found[0].values["bpp_est"] == pytest.approx(0.2)
    assert found[1].values["bpp_est"] is None and [row.values["fd_effnet"] for row in found] == [0.0, 2.0, 1.0]
    assert (found[0].values["encode_s_per_mp"], found[0].values["decode_s_per_mp"]) == (2.0, 4.0)
