"""Values of the original alone are computed once for all its decoded versions, and change no value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hfd.image.load import RgbArray
from hfd.metrics import original
from hfd.metrics.distortion import ms_ssim
from hfd.metrics.of_image import DecodedImage
from hfd.metrics.original import Original
from hfd.metrics.spectrum import top_octave_energy
from hfd.metrics.table import measure_image
from hfd.perceptual.alexnet import lpips
from hfd.perceptual.vgg16 import NAME, Vgg16File, Vgg16Metrics, read_vgg16
from tests.support.pictures import photograph
from tests.support.vgg16 import random_vgg16

COMPUTED = ("scales_of", "lpips_units", "top_octave")


def versions(x: RgbArray) -> list[RgbArray]:
    return [np.clip(x.astype(int) + error, 0, 255).astype(np.uint8) for error in (-9, 4, 30)]


@pytest.mark.parametrize(("kept_pixels", "large"), [(1 << 20, 1), (100, 3)])
def test_values_are_those_of_each_pair_and_work_is_shared_below_a_size(
    kept_pixels: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = dict.fromkeys(COMPUTED, 0)

    def counted(name: str) -> None:
        compute = getattr(original, name)

        def call(x: RgbArray) -> object:
            calls[name] += 1
            return compute(x)

        monkeypatch.setattr(original, name, call)

    for name in COMPUTED:
        counted(name)
    monkeypatch.setattr(original, "KEPT_PIXELS", kept_pixels)
    x = photograph(192, 208)
    one = Original(x)
    for decoded in versions(x):
        values = measure_image(DecodedImage(one, decoded, 900, None, None))
        assert values["ms_ssim"] == ms_ssim(x, decoded)
        assert values["lpips"] == lpips(x, decoded)
        assert values["top_octave_energy"] == top_octave_energy(x, decoded)
    assert calls == {"scales_of": large, "lpips_units": large, "top_octave": 1}


@pytest.mark.parametrize(("kept_pixels", "times"), [(1 << 20, 1), (100, 3)])
def test_features_of_vgg16_are_shared_below_a_size(
    kept_pixels: int, times: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(data := random_vgg16())
    file, calls, prepared = Vgg16File(str(tmp_path), hashlib.sha256(data).hexdigest()), [], Vgg16Metrics.prepared

    def counted(self: Vgg16Metrics, x: RgbArray) -> Iterator[object]:
        calls.append(x.shape)
        return prepared(self, x)

    x = photograph(50, 67)
    expected = [read_vgg16(file).values(x, decoded) for decoded in versions(x)]
    monkeypatch.setattr(Vgg16Metrics, "prepared", counted)
    monkeypatch.setattr(original, "KEPT_VGG16_PIXELS", kept_pixels)
    one = Original(x)
    for decoded, wanted in zip(versions(x), expected, strict=True):
        values = measure_image(DecodedImage(one, decoded, 900, None, None, vgg16=file))
        assert values["lpips_vgg"] == wanted.lpips and values["dists"] == wanted.dists
    assert len(calls) == times


def test_pictures_too_small_for_a_metric_have_no_value() -> None:
    x = photograph(24, 40)
    values = measure_image(DecodedImage(Original(x), x, 900, None, None))
    assert values["ms_ssim"] is values["lpips"] is None and values["top_octave_energy"] == 1.0


def test_a_flat_original_has_no_energy_to_compare_with() -> None:
    flat = np.full((32, 32, 3), 90, np.uint8)
    for decoded in (flat, photograph(32, 32)):
        assert measure_image(DecodedImage(Original(flat), decoded, 900, None, None))["top_octave_energy"] is None
