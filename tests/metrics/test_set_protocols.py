"""Protocols of set metrics as data: their texts, their differences, and the number of patches that they need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hfd.metrics.backbones import BACKBONES
from hfd.metrics.protocols import SetProtocol, protocol_of
from hfd.metrics.set_distances import SET_DISTANCES, distance_named, distances_on
from hfd.metrics.table import METRICS


def made(name: str, **options: object) -> SetProtocol:
    distance = distance_named(name)
    assert distance is not None
    return protocol_of(distance, **{"patch_px": 128, **options})  # type: ignore[arg-type]


def test_every_distance_is_a_metric_of_its_network() -> None:
    for one in SET_DISTANCES:
        metric = METRICS[one.name]
        assert metric.network == one.backbone and metric.optional == (one.backbone != "efficientnet")
        assert metric.better == "lower" and one in distances_on(one.backbone)
    assert [metric.name for metric in METRICS.values() if metric.network in BACKBONES] == [
        one.name for one in SET_DISTANCES
    ]


def test_texts_name_all_that_must_be_equal() -> None:
    assert made("fd_effnet").text == "EfficientNet-Lite0, patches of 128 px"
    assert made("kd_effnet", num_blocks=8).text == "EfficientNet-Lite0, patches of 128 px, mean over 8 blocks"
    fid = made("fid_256", num_patches=192)
    assert fid.text == "Inception-v3 of 2015-12-05, patches of 256 px resized to 299 px (TensorFlow 1's bilinear)"
    assert "192 patches (grid, and grid shifted by half a patch); unbiased covariances" in fid.details
    others = (replace(fid, num_blocks=4), replace(fid, weights="ab" * 32), replace(fid, patch_px=64))
    assert len({fid.text, *(one.text for one in others)}) == 4 and replace(fid, num_patches=5).text == fid.text


def test_deviations_from_the_protocol_are_named() -> None:
    assert made("fd_effnet", patch_px=256).deviation == made("fid_256").deviation == ""
    assert made("fd_effnet").deviation == "128px"
    assert made("fid_256", sha256=BACKBONES["inception"].sha256).deviation == ""
    assert made("fid_256", sha256="ab" * 32, num_blocks=8).deviation == "weights abababab 8 blocks"
    assert made("cmmd_256", sha256="cd" * 32).deviation == "weights cdcdcdcd"


def test_a_protocol_is_read_from_its_record() -> None:
    one = made("fid_256", num_patches=192, num_blocks=3)
    assert SetProtocol.from_record(one.to_record()) == one
    assert SetProtocol.from_record({**one.to_record(), "later": 1}) == one


@pytest.mark.parametrize(
    ("name", "least", "lacks"),
    [("fd_effnet", 2, 1279), ("kd_effnet", 2, 0), ("fid_256", 128, 2047), ("kid_256", 2, 0), ("cmmd_256", 2, 0)],
)
def test_frechet_distances_need_patches(name: str, least: int, lacks: int) -> None:
    distance = distance_named(name)
    assert distance is not None and distance.least_patches == least
    assert distance.lacks_rank(lacks) == (lacks > 0) and not distance.lacks_rank(lacks + 1)
