"""Evaluations side by side: shared pictures, tables without mixed protocols, intervals, the worst and best pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hfd.io.storage import Folder
from hfd.metrics.bootstrap import Drawn, mean_interval
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from hfd.metrics.protocols import SetProtocol, protocol_of
from hfd.metrics.set_distances import distance_named
from hfd.report.compare.content import ComparedRow
from hfd.report.compare.page import protocol_columns
from hfd.report.summarise import Curve
from pipelines.compare.find import find_all
from pipelines.compare.finished import Finished
from pipelines.compare.shared import group_by_pictures
from pipelines.compare.tables import extremes_of, tables_of
from tests.support.evaluations import JPEG, SAMPLE, X_HAT, MadeEvaluation, features_of_image, write_evaluation

NAMES = tuple(f"{letter}.png" for letter in "abcdef")


def values(*images: str, first: float = 20.0) -> dict[str, float]:
    return {image: first + place for place, image in enumerate(images)}


def made(tmp_path: Path, name: str, psnr: Mapping[Curve, Mapping[str, float]], **more: object) -> str:
    write_evaluation(Folder(str(tmp_path / name)), MadeEvaluation(psnr, **more))  # type: ignore[arg-type]
    return str(tmp_path / name)


def read(*places: str) -> list[Finished]:
    return find_all(places, None)


def main_rows(*places: str) -> list[ComparedRow]:
    (shared,), _ = group_by_pictures(read(*places))
    return list(tables_of(shared)[0][0].rows)


def test_means_are_over_the_shared_pictures_alone_and_the_page_says_so(tmp_path: Path) -> None:
    one = made(tmp_path, "one", {X_HAT: values(*NAMES[:4])})
    two = made(tmp_path, "two", {X_HAT: values(*NAMES[1:], first=30.0)})
    (shared,), notes = group_by_pictures(read(one, two))
    assert shared.images == NAMES[1:4]
    first, second = tables_of(shared)[0][0].rows
    assert (first.row.num_images, second.row.num_images) == (3, 3)
    assert first.row.values["psnr"] == pytest.approx(np.mean([21.0, 22.0, 23.0]))
    assert second.row.values["psnr"] == pytest.approx(np.mean([30.0, 31.0, 32.0]))
    # The reported distances are over other pictures, and there are no features to compute them from.
    assert first.row.values["fd_effnet"] is second.row.values["fd_effnet"] is None
    assert notes == [
        "one has 4 pictures, 1 of them not in all others: compared on the 3 that are shared.",
        "two has 5 pictures, 2 of them not in all others: compared on the 3 that are shared.",
    ]


def test_distances_over_shared_pictures_come_from_the_features(tmp_path: Path) -> None:
    one = made(tmp_path, "one", {X_HAT: values(*NAMES[:3])}, features=True)
    two = made(tmp_path, "two", {X_HAT: values(*NAMES[:2])}, features=True)
    row, whole = main_rows(one, two)
    sides = [np.concatenate([features_of_image(name, 0, place) for name in NAMES[:2]]) for place in (None, 0)]
    expected = frechet_distance(*(GaussianStats.of(side.astype(np.float64)) for side in sides))
    assert row.row.values["fd_effnet"] == pytest.approx(expected, rel=1e-4)
    assert whole.row.values["fd_effnet"] == 100.0  # as reported: over all of its pictures
    low, high = row.intervals["fd_effnet"]
    assert low < expected < high


def test_runs_without_a_shared_picture_are_apart(tmp_path: Path) -> None:
    one = made(tmp_path, "one", {X_HAT: values("a.png")})
    two = made(tmp_path, "two", {X_HAT: values("b.png")})
    three = made(tmp_path, "three", {X_HAT: values("b.png")}, size=(56, 64))  # of another size
    groups, notes = group_by_pictures(read(one, two, three))
    assert [[run.name for run in group.runs] for group in groups] == [["one"], ["two"], ["three"]]
    assert "Not all evaluations share pictures: they are compared in 3 groups (one; two; three)." in notes


def test_another_picture_of_the_same_name_and_size_is_noticed_by_its_features(tmp_path: Path) -> None:
    one = made(tmp_path, "one", {X_HAT: values(*NAMES[:2])}, features=True)
    two = made(tmp_path, "two", {X_HAT: values(*NAMES[:2])}, features=True, seed=1)
    groups, notes = group_by_pictures(read(one, two))
    assert len(groups) == 2
    assert notes[0] == "two: a.png, b.png are each another picture than in one."


def test_patch_sizes_and_blocks_are_protocols_of_their_own(tmp_path: Path) -> None:
    one = made(tmp_path, "one", {X_HAT: values(*NAMES)}, patch_px=64)
    two = made(tmp_path, "two", {X_HAT: values(*NAMES)}, patch_px=128)
    three = made(tmp_path, "three", {X_HAT: values(*NAMES)}, patch_px=64, blocks=8)
    columns = [(one.metric.name, one.protocol) for one in protocol_columns(main_rows(one, two, three))]
    assert [protocol for name, protocol in columns if name == "fd_effnet"] == [
        "EfficientNet-Lite0, patches of 64 px",
        "EfficientNet-Lite0, patches of 128 px",
        "EfficientNet-Lite0, patches of 64 px, mean over 8 blocks",
    ]
    assert [name for name, _ in columns].count("psnr") == 1


def kid_protocol(**other: object) -> dict[str, SetProtocol]:
    distance = distance_named("kid_256")
    assert distance is not None
    return {"kid_256": protocol_of(distance, patch_px=64, **other)}  # type: ignore[arg-type]


def test_set_metrics_of_optional_networks_have_a_column_for_each_protocol(tmp_path: Path) -> None:
    kid = {"distances": {"kid_256": 0.01}}
    one = made(tmp_path, "one", {X_HAT: values(*NAMES)}, **kid, protocols=kid_protocol())
    two = made(tmp_path, "two", {X_HAT: values(*NAMES)}, **kid, protocols=kid_protocol(sha256="ab" * 32))
    three = made(tmp_path, "three", {X_HAT: values(*NAMES)})
    rows = main_rows(one, two, three)
    columns = [column for column in protocol_columns(rows) if column.metric.name == "kid_256"]
    assert [column.protocol.rpartition(", ")[2] for column in columns] == [
        "patches of 256 px resized to 299 px (TensorFlow 1's bilinear)", "weights abababab",
    ]  # fmt: skip
    for column, known in zip(columns, ([0.01, None, None], [None, 0.01, None]), strict=True):
        assert [row.value("kid_256", column.protocol) for row in rows] == known


def test_set_metrics_of_optional_networks_over_shared_pictures_come_from_their_features(tmp_path: Path) -> None:
    more = {"distances": {"fid_256": 5.0, "kid_256": 0.01}, "features": True}
    one = made(tmp_path, "one", {X_HAT: values(*NAMES[:3])}, **more)
    two = made(tmp_path, "two", {X_HAT: values(*NAMES[:2])}, **more)
    row, whole = main_rows(one, two)
    sides = [
        np.concatenate([features_of_image(name, 0, place, network="inception") for name in NAMES[:2]])
        for place in (None, 0)
    ]
    assert row.row.values["kid_256"] == pytest.approx(kernel_distance(*sides), rel=1e-6)
    assert row.row.values["fid_256"] is None  # too few patches
    assert whole.row.values["fid_256"] == 5.0 and whole.row.values["kid_256"] == 0.01
    low, high = row.intervals["kid_256"]
    assert low < kernel_distance(*sides) < high and "fid_256" not in row.intervals


def test_a_row_that_lacks_pictures_has_a_table_with_ours_over_the_same(tmp_path: Path) -> None:
    place = made(tmp_path, "one", {X_HAT: values(*NAMES[:4]), JPEG: values(*NAMES[:3], first=10.0)})
    (shared,), _ = group_by_pictures(read(place))
    (main, fewer), notes = tables_of(shared)
    assert [row.curve for row in main.rows] == ["one: x_hat"] and notes == []
    assert fewer.title == "Without d.png: 3 pictures"
    assert [(row.curve, row.row.num_images, row.row.values["psnr"]) for row in fewer.rows] == [
        ("one: x_hat", 3, pytest.approx(21.0)), ("JPEG", 3, pytest.approx(11.0)),
    ]  # fmt: skip


def test_a_system_that_could_not_be_measured_is_a_row_without_numbers(tmp_path: Path) -> None:
    place = made(tmp_path, "one", {X_HAT: values(*NAMES)}, gaps={"vtm": "EncoderAppStatic not found"})
    gap = main_rows(place)[-1]
    assert (gap.curve, gap.row.setting, gap.row.num_images) == ("VTM", "EncoderAppStatic not found", 0)
    assert set(gap.row.values.values()) == {None}


def test_rows_of_the_same_files_are_there_once_and_labels_join_curves(tmp_path: Path) -> None:
    same = {X_HAT: values(*NAMES), JPEG: values(*NAMES, first=10.0)}
    one = made(tmp_path, "one", same)
    two = made(tmp_path, "two", {**same, SAMPLE: values(*NAMES)}, bpp=0.5)
    again = made(tmp_path, "three", same)
    rows = main_rows(f"ours={one}", f"ours={two}", again)
    assert [(row.curve, row.run, round(row.row.bpp, 6)) for row in rows] == [
        ("ours: x_hat", "one", 0.25), ("ours: x_hat", "two", 0.5), ("ours: sample, 1 step", "two", 0.52),
        ("three: x_hat", "three", 0.25), ("JPEG", "one", 0.26), ("JPEG", "two", 0.51),
    ]  # fmt: skip
    assert len({row.label for row in rows}) == len(rows)


def test_the_worst_and_best_pictures_of_each_row(tmp_path: Path) -> None:
    psnr = {f"{number:02}.png": float(number) for number in range(25)}
    (shared,), _ = group_by_pictures(read(made(tmp_path, "one", {X_HAT: psnr})))
    (found,) = extremes_of(shared, tables_of(shared)[0][0].rows)
    assert (found.row, found.metric) == ("one: x_hat", "psnr")
    assert found.worst == tuple((f"{number:02}.png", float(number)) for number in range(10))
    assert found.best == tuple((f"{number:02}.png", float(number)) for number in range(24, 14, -1))


def test_the_interval_of_a_mean_covers_as_often_as_it_states() -> None:
    rng, hits = np.random.default_rng(0), 0
    for number in range(300):
        low, high = mean_interval(rng.normal(0.0, 1.0, 60), draws=200, seed=number)
        hits += low <= 0.0 <= high
    assert 0.90 <= hits / 300 <= 0.985
    many = rng.normal(5.0, 2.0, 40_000)
    low, high = mean_interval(many)
    assert (high - low) / 2 == pytest.approx(1.96 * 2.0 / 200, rel=0.03) and low < 5.0 < high


def test_the_interval_of_a_distance_surrounds_its_value() -> None:
    drawn = Drawn(10.0, tuple(13.0 + step / 10 for step in range(-20, 21)))  # draws lie above the value
    assert drawn.interval() == pytest.approx((8.1, 11.9))
