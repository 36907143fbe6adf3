"""LPIPS-VGG and DISTS against the packages of their authors, in tiles as at once, and the reading of their weights."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from hfd.errors import DataError
from hfd.perceptual import vgg16
from hfd.perceptual.convert_vgg16 import converted_vgg16
from hfd.perceptual.networks import VGG16_WHOLE
from hfd.perceptual.vgg16 import NAME, Vgg16File, Vgg16Metrics, build_vgg16, read_vgg16
from tests.support.pictures import photograph
from tests.support.vgg16 import random_vgg16


@pytest.fixture(scope="module")
def data() -> bytes:
    return random_vgg16()


@pytest.fixture(scope="module")
def metrics(data: bytes) -> Vgg16Metrics:
    return build_vgg16(data, "where")


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """A picture, odd in size, beside a blurred, a noisy and an unrelated one."""
    x = photograph(75, 101, seed=0)
    noise = np.random.default_rng(0).normal(0, 12, x.shape)
    blurred = (x[:-1, :-1].astype(float) + x[1:, 1:]) / 2
    others = (np.pad(blurred, ((0, 1), (0, 1), (0, 0)), "edge"), x + noise, photograph(75, 101, seed=5))
    return [(x, np.clip(other, 0, 255).astype(np.uint8)) for other in others]


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x).permute(2, 0, 1)[None].float() / 255.0


def give_weights(module: nn.Module, metrics: Vgg16Metrics) -> None:
    theirs = [one for one in module.modules() if isinstance(one, nn.Conv2d) and one.kernel_size == (3, 3)]
    for conv, own in zip(theirs, metrics.network.convs, strict=True):
        conv.load_state_dict(own.state_dict())


@torch.no_grad()
def test_lpips_is_the_authors_metric(metrics: Vgg16Metrics) -> None:
    """With their linear layers, from their package, over the same convolutions."""
    package = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = package.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    give_weights(reference.net, metrics)
    linear = tuple(getattr(reference, f"lin{i}").model[1].weight.flatten() for i in range(5))
    own = Vgg16Metrics.of(metrics.network, linear, torch.rand(1475), torch.rand(1475))
    for a, b in pairs():
        assert own.values(a, b).lpips == pytest.approx(float(reference(2 * tensor(a) - 1, 2 * tensor(b) - 1)), abs=1e-4)


@torch.no_grad()
def test_dists_is_the_authors_metric(metrics: Vgg16Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their weights of channels, from their package, over the same convolutions."""
    package = pytest.importorskip("DISTS_pytorch.DISTS_pt")
    from torchvision.models import vgg16 as untrained

    monkeypatch.setattr(package.models, "vgg16", lambda **_: untrained(weights=None))
    reference = package.DISTS(load_weights=False).eval()
    give_weights(reference, metrics)
    stored = torch.load(Path(sys.prefix, "weights.pt"), weights_only=True)
    reference.alpha.data, reference.beta.data = stored["alpha"], stored["beta"]
    linear = [torch.rand(width) for width in metrics.network.widths]
    own = Vgg16Metrics.of(metrics.network, linear, stored["alpha"].flatten(), stored["beta"].flatten())
    found = [own.values(a, b).dists for a, b in pairs()]
    expected = [float(reference(tensor(a), tensor(b))) for a, b in pairs()]
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) > 0.05


def test_equal_pictures_are_at_no_distance_and_both_are_symmetric(metrics: Vgg16Metrics) -> None:
    a, b = pairs()[1]
    same, there, back = metrics.values(a, a), metrics.values(a, b), metrics.values(b, a)
    assert same.lpips == 0.0 and same.dists == pytest.approx(0.0, abs=1e-6)
    assert there.lpips == pytest.approx(back.lpips) and there.lpips > 1e-3
    assert there.dists == pytest.approx(back.dists) and there.dists > 1e-3


@pytest.mark.parametrize("size", [(77, 53), (45, 141)])
@pytest.mark.parametrize("band_pixels", [1, 4600])
def test_bands_give_the_distances_of_the_whole_picture(
    metrics: Vgg16Metrics, size: tuple[int, int], band_pixels: int
) -> None:
    a, b = photograph(*size, seed=1), photograph(*size, seed=2)
    whole, found = metrics.values(a, b), metrics.values(a, b, band_pixels=band_pixels)
    assert found.lpips == pytest.approx(whole.lpips, abs=1e-6) and found.dists == pytest.approx(whole.dists, abs=1e-6)


def test_channels_without_weight_change_nothing(metrics: Vgg16Metrics) -> None:
    """They are left out, as most of DISTS's structure: against the sums over all channels with weights near zero."""
    generator = torch.Generator().manual_seed(1)
    counts = [torch.rand(size, generator=generator) < 0.3 for size in (*metrics.network.widths, 1475)]
    alpha, found = torch.rand(1475, generator=generator), []
    for least in (0.0, 1e-30):
        *linear, beta = (count.float().clamp(min=least) for count in counts)
        found.append(Vgg16Metrics.of(metrics.network, linear, alpha, beta).values(*pairs()[0]))
    some, every = found
    assert some.lpips == pytest.approx(every.lpips, abs=1e-6) and some.dists == pytest.approx(every.dists, abs=1e-6)


def test_weights_that_are_missing_or_of_another_checksum_are_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"vgg16-metrics\.safetensors: got no such file, expected the weights.*Make it"):
        read_vgg16(Vgg16File(str(tmp_path)))
    (tmp_path / NAME).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(DataError, match=f"got SHA-256 {digest}, expected {vgg16.SHA256}. Make") as caught:
        read_vgg16(Vgg16File(str(tmp_path)))
    assert "\n" not in str(caught.value) and caught.value.is_outage
    assert isinstance(read_vgg16(Vgg16File(str(tmp_path), digest)), Vgg16Metrics)


def test_weights_of_another_shape_are_one_line(data: bytes) -> None:
    with pytest.raises(DataError, match="where: not readable weights"):
        build_vgg16(b"nothing", "where")
    for name, message in (
        ("dists.alpha", r"where: dists.alpha: got \(7,\), expected \(1475,\) finite numbers"),
        ("lpips.3", r"where: lpips.3: got \(7,\), expected \(512,\)"),
        ("convs.2.weight", r"where: weights do not fit the network: convs.2.weight is \(7,\)"),
    ):
        with pytest.raises(DataError, match=message):
            build_vgg16(save({**load(data), name: torch.zeros(7)}), "where")
    with pytest.raises(DataError, match=r"where: dists.beta: got \(0,\)"):
        build_vgg16(save({name: one for name, one in load(data).items() if name != "dists.beta"}), "where")
    with pytest.raises(DataError, match=r"where: lpips.0: got \(64,\), expected \(64,\) finite"):
        build_vgg16(save({**load(data), "lpips.0": torch.full((64,), torch.nan)}), "where")


def stored() -> tuple[dict[str, Any], bytes]:
    """The two sources of the conversion: pickled arrays, and a checkpoint of torch."""
    rng = np.random.default_rng(0)
    trunk = {
        f"Conv_{i}": {
            "kernel": rng.normal(size=(3, 3, layer.inputs, layer.outputs)).astype(np.float32),
            "bias": rng.normal(size=layer.outputs).astype(np.float32),
        }
        for i, layer in enumerate(VGG16_WHOLE)
    }
    widths = [layer.outputs for layer in VGG16_WHOLE if layer.tap]
    taps = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.random((1, 1, w, 1), np.float32)}} for i, w in enumerate(widths)
    }
    buffer = io.BytesIO()
    torch.save({"alpha": torch.rand(1, 1475, 1, 1), "beta": torch.rand(1, 1475, 1, 1)}, buffer)
    return {"VGG16_0": trunk, **taps}, buffer.getvalue()


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not run",)


def test_conversion_keeps_every_weight_and_unpickles_tensors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    pickled, dists = stored()
    found = build_vgg16(save(converted_vgg16(pickled, dists, "x")), "x")
    kernel = pickled["VGG16_0"]["Conv_7"]["kernel"]
    np.testing.assert_array_equal(found.network.convs[7].weight.detach().numpy(), kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(found.linear[2].weights, pickled["NetLinLayer_2"]["Conv_0"]["kernel"].flatten())
    expected = torch.load(io.BytesIO(dists), weights_only=True)
    alpha, beta = (torch.cat(parts) for parts in zip(*((one.alpha, one.beta) for one in found.weights), strict=True))
    assert torch.equal(alpha, expected["alpha"].flatten().double())
    assert torch.equal(beta, expected["beta"].flatten().double())
    for bad in (pickle.dumps(_Evil()), b"nothing"):
        with pytest.raises(DataError, match=r"weights of DISTS: got .*expected the tensors alpha and beta"):
            converted_vgg16(pickled, bad, "x")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["absent.ckpt", "absent.pt", "out"]])
def test_a_conversion_without_its_files_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "hfd.perceptual.convert_vgg16", *arguments]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2 and not list(tmp_path.iterdir())
    (line,) = ended.stderr.splitlines()
    assert line.startswith("convert_vgg16: absent.ckpt: " if arguments[:1] == ["absent.ckpt"] else "convert_vgg16: arg")
