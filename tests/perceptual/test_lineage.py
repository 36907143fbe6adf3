"""The pretrained networks in the training of a decoder, over several trainings."""

from __future__ import annotations

from typing import Any

import pytest

from hfd.config import PerceptualConfig
from hfd.perceptual.lineage import lineage_entry, networks_in_training


@pytest.mark.parametrize(
    ("settings", "networks"),
    [
        ({}, ("alexnet", "vgg16")),
        ({"lpips": 0.0}, ("vgg16",)),
        ({"wasserstein": 0.0}, ("alexnet",)),
        ({"wasserstein": 0.0, "lpips": 0.0}, ()),
        ({"wasserstein": 0.0, "lpips": 0.0, "critic": {}}, ("vgg16",)),
        ({"wasserstein": 0.0, "lpips": 0.0, "critic": {"kind": "patch"}}, ()),
        ({"wasserstein": 0.0, "lpips": 0.0, "style": 1.0}, ("vgg16",)),
        ({"wasserstein": 0.0, "lpips": 0.0, "charbonnier": 1.0}, ()),
    ],
)
def test_a_loss_of_weight_zero_does_not_count(settings: dict[str, Any], networks: tuple[str, ...]) -> None:
    section = PerceptualConfig.model_validate(settings).model_dump(mode="json")
    assert networks_in_training({"perceptual": section}) == networks


def test_networks_of_the_trainings_before_count() -> None:
    first = {"perceptual": {"lpips": 0.02}}
    second = {"perceptual": {"wasserstein": 0.02}, **lineage_entry(first)}
    third = lineage_entry(second)
    assert networks_in_training(third) == ("alexnet", "vgg16")
    assert lineage_entry({}) == {} and networks_in_training({"perceptual": None}) == ()
