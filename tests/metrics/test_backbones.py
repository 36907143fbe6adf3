"""Networks of set metrics against those of their packages and authors, with random weights; reading of weights."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from hfd.errors import DataError
from hfd.metrics import convert_backbone
from hfd.metrics.backbones import BACKBONES, BackboneFile
from hfd.metrics.convert_backbone import converted_clip, converted_dinov2, converted_inception
from hfd.metrics.features import NUM_FEATURES
from hfd.metrics.inception import InceptionFeatures, inception_shapes
from hfd.metrics.read_backbone import check_backbone, read_backbone
from hfd.metrics.vision_transformers import clip_features, dinov2_features
from tests.support.backbones import (
    CLIP_BASE,
    CLIP_BASE_PX,
    DINOV2_SMALL,
    random_clip,
    random_dinov2,
    random_inception,
)
from tests.support.pictures import photograph

RECORDED = Path(__file__).parent / "dinov2_features.json"


@pytest.fixture(scope="module")
def inception() -> dict[str, Tensor]:
    return random_inception()


def patches(side: int, num: int = 2) -> np.ndarray:
    return np.stack([photograph(side, side, seed=seed) for seed in range(num)])


def bytes_of(tensors: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


@torch.no_grad()
def test_inception_features_are_torch_fidelitys(inception: dict[str, Tensor], tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    whole = inception | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    (tmp_path / "theirs.pth").write_bytes(bytes_of(whole))
    theirs = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "theirs.pth")
    )
    x = patches(256)
    expected = theirs(torch.from_numpy(x).permute(0, 3, 1, 2))[0].numpy()
    found = InceptionFeatures(inception, "where")(x)
    assert found.shape == (2, BACKBONES["inception"].dimension) and found.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert InceptionFeatures(inception, "where")(x[:0]).shape == (0, 2048)


def test_inception_is_converted_from_either_source(
    inception: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive holds numbered arrays, four for each convolution, and no scale of the batch norms."""
    found = converted_inception(bytes_of(inception | {"fc.bias": torch.zeros(1008)}), "where")
    assert found.keys() == inception.keys() and all(torch.equal(found[name], inception[name]) for name in found)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        stored = [name for name in inception if not name.endswith("bn.weight")]
        for number, name in enumerate(stored):
            archive.writestr(f"out_jit_module/data/{number}", inception[name].numpy().tobytes())
    monkeypatch.setattr(convert_backbone, "FID_HELPER_SHA256", hashlib.sha256(buffer.getvalue()).hexdigest())
    found = converted_inception(buffer.getvalue(), "where")
    for name, tensor in found.items():
        expected = torch.ones_like(tensor) if name.endswith("bn.weight") else inception[name]
        assert torch.equal(tensor, expected), name
    assert list(stored[:4]) == [
        f"Conv2d_1a_3x3.{part}" for part in ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    ]


def test_dinov2_features_are_those_of_its_authors_network() -> None:
    """Recorded by record_dinov2.py; ours has the positional embedding of 224 px in its file."""
    tensors = converted_dinov2(random_dinov2(), "where")
    found = dinov2_features(tensors, "where", arch=DINOV2_SMALL)(patches(224))
    np.testing.assert_allclose(found, np.array(json.loads(RECORDED.read_text())), rtol=0, atol=1e-3)


@torch.no_grad()
def test_clip_embeddings_are_torch_fidelitys_of_length_one() -> None:
    from torch_fidelity.feature_extractor_clip import build_model

    stored = random_clip()
    theirs = build_model(dict(stored), torch.float32)
    x = patches(CLIP_BASE_PX)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    scaled = (torch.from_numpy(x).permute(0, 3, 1, 2) / 255.0 - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(
        std
    ).reshape(3, 1, 1)
    expected = torch.nn.functional.normalize(theirs.visual(scaled)).numpy()
    found = clip_features(converted_clip(stored, "where"), "where", arch=CLIP_BASE, side_px=CLIP_BASE_PX)(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_patches_are_resized_by_pillow() -> None:
    features = dinov2_features(converted_dinov2(random_dinov2(), "where"), "where", arch=DINOV2_SMALL)
    x = patches(256, 1)
    resized = np.asarray(Image.fromarray(x[0]).resize((224, 224), Image.Resampling.BICUBIC))[None]
    np.testing.assert_array_equal(features(x), features(resized))


@pytest.mark.slow
def test_the_whole_networks_are_those_of_the_protocols() -> None:
    """ViT-L/14 for 224 px and for 336 px: the shapes of the published files."""
    x = patches(256, 1)
    dinov2 = dinov2_features(converted_dinov2(random_dinov2(1024, 24), "where"), "where")
    assert dinov2(x).shape == (1, BACKBONES["dinov2"].dimension) == (1, 1024)
    clip = clip_features(converted_clip(random_clip(1024, 24, 14, 336, 768), "where"), "where")
    assert clip(x).shape == (1, BACKBONES["clip"].dimension) == (1, 768)


def test_effnet_has_its_own_number_of_features() -> None:
    assert BACKBONES["efficientnet"].dimension == NUM_FEATURES


def written(folder: Path, tensors: dict[str, Tensor]) -> BackboneFile:
    data = save(tensors)
    (folder / BACKBONES["inception"].file).write_bytes(data)
    return BackboneFile("inception", str(folder), hashlib.sha256(data).hexdigest())


def test_a_file_is_read_with_its_checksum(inception: dict[str, Tensor], tmp_path: Path) -> None:
    file, x = written(tmp_path, inception), patches(128, 1)
    check_backbone(file)
    np.testing.assert_array_equal(read_backbone(file)(x), InceptionFeatures(inception, "where")(x))


def test_weights_that_are_missing_damaged_or_of_another_network_are_one_line(
    inception: dict[str, Tensor], tmp_path: Path
) -> None:
    file = written(tmp_path, inception)
    missing = BackboneFile("inception", str(tmp_path / "none"), file.sha256)
    wrong = BackboneFile("inception", str(tmp_path), "0" * 64)
    with pytest.raises(
        DataError, match=r"inception-v3\.safetensors: got no such file.*convert_backbone inception"
    ) as no:
        check_backbone(missing)
    with pytest.raises(
        DataError, match=rf"got SHA-256 {file.sha256}, expected 0{{64}}.*evaluate.inception_sha256"
    ) as bad:
        read_backbone(wrong)
    short = {name: tensor for name, tensor in inception.items() if name != "Mixed_7c.branch1x1.conv.weight"}
    with pytest.raises(DataError, match=r"do not fit Inception-v3: Missing key.*Mixed_7c.branch1x1.conv.weight") as few:
        InceptionFeatures(short, "where")
    other = inception | {"Conv2d_1a_3x3.bn.bias": torch.zeros(3)}
    with pytest.raises(DataError, match=r"Conv2d_1a_3x3.bn.bias") as shape:
        InceptionFeatures(other, "where")
    with pytest.raises(DataError, match=r"Conv2d_1a_3x3.bn.bias: got numbers that are not finite") as nan:
        InceptionFeatures(inception | {"Conv2d_1a_3x3.bn.bias": torch.full((32,), torch.nan)}, "where")
    for caught in (no, bad, few, shape, nan):
        assert "\n" not in str(caught.value) and caught.value.is_outage


def test_a_checkpoint_of_anything_but_tensors_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("this must not run",)

    for data in (bytes_of({"a": Evil()}), bytes_of([1, 2]), b"nothing"):
        with pytest.raises(DataError, match=r"where: got .*, expected a checkpoint of tensors"):
            converted_inception(data, "where")
    with pytest.raises(DataError, match=r"got no Conv2d_1a_3x3\.bn\.bias"):
        converted_inception(bytes_of({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}), "where")
    with pytest.raises(DataError, match="expected a checkpoint of DINOv2"):
        converted_dinov2({}, "where")
    with pytest.raises(DataError, match="expected a checkpoint of OpenAI's CLIP"):
        converted_clip({}, "where")
    program = io.BytesIO()
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("m/code/a.py", "")
    with pytest.raises(DataError, match="where: got a program for torch with SHA-256"):
        converted_inception(program.getvalue(), "where")
    assert capsys.readouterr().out == ""


def test_the_converter_prints_the_checksum_of_its_file(
    inception: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "weights.pth"
    source.write_bytes(bytes_of(inception))
    convert_backbone.main("inception", source, tmp_path / "out")
    file = tmp_path / "out" / BACKBONES["inception"].file
    assert capsys.readouterr().out.split() == [hashlib.sha256(file.read_bytes()).hexdigest(), str(file)]
    assert load(file.read_bytes()).keys() == inception_shapes().keys()
