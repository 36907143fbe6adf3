"""LPIPS against the package of its authors, and how its weights are read."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from hfd.errors import DataError
from hfd.perceptual import weights
from hfd.perceptual.alexnet import lpips
from hfd.perceptual.convert import converted, unpickle_arrays
from hfd.perceptual.lpips import Lpips
from hfd.perceptual.networks import ALEXNET, NETWORKS, FrozenFeatures
from hfd.perceptual.weights import FOLDER, build_frozen, read_frozen
from tests.support.pictures import photograph


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth ones with some noise, in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, height // 16, width // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (0.6 * smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(-1.0, 1.0)


@torch.no_grad()
def test_it_is_the_authors_metric() -> None:
    """With their linear layers, from their package, over the same convolutions."""
    package = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = package.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    network, _ = read_frozen("alexnet")
    theirs = [module for module in reference.net.modules() if isinstance(module, torch.nn.Conv2d)]
    for conv, own in zip(theirs, network.convs, strict=True):
        conv.load_state_dict(own.state_dict())
    a = pictures(3, 96, 128)
    for b in (a.flip(0), (a + 0.2 * torch.randn_like(a)).clamp(-1, 1), torch.nn.functional.avg_pool2d(a, 5, 1, 2)):
        torch.testing.assert_close(Lpips()(a, b), reference(a, b).flatten(), rtol=0.0, atol=1e-4)


def test_equal_pictures_are_at_no_distance_and_it_is_symmetric() -> None:
    a, b = ((127.5 * (x + 1)).byte().permute(1, 2, 0).numpy() for x in pictures(2, 64, 80))
    assert lpips(a, a) == 0.0
    assert lpips(a, b) == pytest.approx(lpips(b, a)) and lpips(a, b) > 0.1


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(31, 47), (97, 203), (250, 61)])
def test_the_metric_is_that_of_the_module_in_bands_as_at_once(height: int, width: int) -> None:
    a, b = photograph(height, width, seed=1), photograph(height, width, seed=2)
    x, y = (torch.tensor(one).permute(2, 0, 1)[None].float() / 127.5 - 1.0 for one in (a, b))
    expected = float(Lpips()(x, y))
    for band_pixels in (1, 4000, 10000, 1 << 20):
        assert lpips(a, b, band_pixels=band_pixels) == pytest.approx(expected, abs=1e-6)
    assert expected > 0.05


def test_a_gradient_of_equal_pictures_is_finite() -> None:
    a = torch.zeros(1, 3, 64, 64, requires_grad=True)
    Lpips()(a, torch.zeros(1, 3, 64, 64)).sum().backward()
    assert bool(a.grad.isfinite().all())


def test_a_network_that_was_read_in_inference_mode_passes_gradients() -> None:
    data = (FOLDER / "vgg16.safetensors").read_bytes()
    with torch.inference_mode():
        network, _ = build_frozen("vgg16", data, "where")
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    network(x)[1].sum().backward()
    assert bool(x.grad.any())


def test_weights_that_are_missing_damaged_or_of_another_shape_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"alexnet\.safetensors: got No such file.*expected the weights of alexnet"):
        read_frozen("alexnet", tmp_path)
    (tmp_path / "vgg16.safetensors").write_bytes(b"other")
    with pytest.raises(DataError, match=r"vgg16\.safetensors: got SHA-256 d9298a10.*expected"):
        read_frozen("vgg16", tmp_path)
    data = (FOLDER / "alexnet.safetensors").read_bytes()
    with pytest.raises(DataError, match="where"):
        build_frozen("vgg16", data, "where")
    with pytest.raises(DataError, match="where: not readable weights"):
        build_frozen("vgg16", b"nothing", "where")
    tensors = load(data)
    tensors["lpips.1"] = tensors["lpips.1"][:3].clone()
    with pytest.raises(DataError, match=r"lpips\.\*: got"):
        build_frozen("alexnet", save(tensors), "where")
    for error in (tmp_path,):
        with pytest.raises(DataError) as caught:
            read_frozen("alexnet", error)
        assert "\n" not in str(caught.value)


def test_shipped_weights_have_the_pinned_checksums() -> None:
    for name in NETWORKS:
        network, linear = read_frozen(name)
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert len(linear) == (5 if name == "alexnet" else 0)
    assert set(weights.SHA256) == set(NETWORKS)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not run",)


def test_a_pickle_of_anything_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"x: got a reference to builtins.print, expected a pickle of NumPy arrays"):
        unpickle_arrays(pickle.dumps({"a": _Evil()}), "x")
    with pytest.raises(DataError, match="expected a pickle of NumPy arrays"):
        unpickle_arrays(b"\x80\x04broken", "x")
    assert capsys.readouterr().out == ""
    assert unpickle_arrays(pickle.dumps({"a": [1.5, "b"]}), "x") == {"a": [1.5, "b"]}


def stored_alexnet() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    trunk = {
        f"Conv_{i}": {
            "kernel": rng.normal(size=(layer.kernel, layer.kernel, layer.inputs, layer.outputs)).astype(np.float32),
            "bias": rng.normal(size=layer.outputs).astype(np.float32),
        }
        for i, layer in enumerate(ALEXNET)
    }
    taps = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.random((1, 1, layer.outputs, 1), np.float32)}}
        for i, layer in enumerate(ALEXNET)
    }
    return {"AlexNet_0": trunk, **taps}


@torch.no_grad()
def test_conversion_lays_kernels_out_for_torch() -> None:
    """A pixel of the first map is the sum that the stored kernel says."""
    stored = stored_alexnet()
    arrays = unpickle_arrays(pickle.dumps(stored), "x")
    network, linear = build_frozen("alexnet", save(converted("alexnet", arrays, "x")), "x")
    x = torch.randn(1, 3, 40, 40)
    first = network(x)[0]
    seen = ((x - network.mean) / network.std)[0, :, 2:13, 6:17].permute(1, 2, 0).numpy()
    kernel, bias = stored["AlexNet_0"]["Conv_0"]["kernel"], stored["AlexNet_0"]["Conv_0"]["bias"]
    expected = np.maximum(np.einsum("hwi,hwio->o", seen, kernel) + bias, 0.0)
    np.testing.assert_allclose(first[0, :, 1, 2].numpy(), expected, rtol=5e-3, atol=5e-2)  # stored in half precision
    assert [len(one) for one in linear] == [64, 192, 384, 256, 256]


def test_conversion_names_arrays_that_do_not_fit() -> None:
    stored = stored_alexnet()
    stored["AlexNet_0"]["Conv_2"]["kernel"] = np.zeros((3, 3, 192, 1), np.float32)
    with pytest.raises(DataError, match=r"x: Conv_2.kernel: got \(3, 3, 192, 1\), expected finite numbers of"):
        converted("alexnet", stored, "x")
    with pytest.raises(DataError, match="x: got no convolutions"):
        converted("vgg16", {}, "x")


def test_taps_of_vgg16() -> None:
    network, _ = read_frozen("vgg16")
    found = network(torch.zeros(1, 3, 16, 24))
    assert [tuple(one.shape[1:]) for one in found] == [(64, 16, 24), (128, 8, 12)]
    assert network.widths == (64, 128) and FrozenFeatures(ALEXNET).widths == (64, 192, 384, 256, 256)


def test_reading_the_frozen_networks_draws_no_random_numbers() -> None:
    """They are read once in a process: what is built after them is then the same the first time as later."""
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    build_frozen("alexnet", (FOLDER / "alexnet.safetensors").read_bytes(), "here")
    assert torch.equal(torch.random.get_rng_state(), before)
