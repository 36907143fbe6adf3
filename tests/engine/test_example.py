"""The worked examples of docs/onnx.md run as they are printed, and give what hfd gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.codec.export import export_model
from hfd.diffusion.process import predict
from hfd.io.model_folders import find_model
from hfd.io.storage import Folder
from tests.support.absent import run_without
from tests.support.paths import ROOT
from tests.support.pictures import photograph

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/onnx.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.integration
def test_the_page(tmp_path: Path) -> None:
    codec = Codec.load(find_model("desk-025"), engine="torch")
    data = codec.compress(photograph(90, 140)).data
    (tmp_path / "photo.hfd").write_bytes(data)
    export_model(find_model("desk-025"), Folder(str(tmp_path / "my-model")), half=False)
    with_hfd, *without_hfd = BLOCKS
    assert len(without_hfd) == 2
    for absent, code in (([], with_hfd), (["hfd", "torch"], "\n".join(without_hfd))):
        ended = run_without(absent, code, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr

    x_hat = np.array(Image.open(tmp_path / "x_hat.png"))
    assert np.abs(x_hat.astype(int) - codec.reconstruct(data)).max() <= 1

    # The process in torch, from the same noise.
    assert codec.decoder is not None
    source = codec.open(unpack(data))
    y_hat = torch.from_numpy(np.asarray(source.y_hat))
    cond = 2.0 * codec.autoencoder.model.reconstruct(y_hat)[:, :, :90, :140] - 1.0
    cond = torch.nn.functional.pad(cond, (0, -140 % 8, 0, -90 % 8), mode="replicate")
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(cond.shape), np.float32))
    process, net, t = codec.decoder.process, codec.decoder.net, torch.ones(1)
    x_1 = process.start(cond, noise)
    with torch.no_grad():
        x_0 = process.x0_pred(x_1, predict(process, net, x_1, cond, t), t)
    expected = ((x_0[0, :, :90, :140] + 1.0) / 2.0).clamp(0.0, 1.0).permute(1, 2, 0).numpy()
    sample = np.array(Image.open(tmp_path / "sample.png"))
    assert np.abs(sample - 255.0 * expected).max() <= 0.51
    assert (sample != x_hat).any()
