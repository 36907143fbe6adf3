"""The script of the README's picture reads evaluations as the pipeline writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfd.image.load import encode_webp_lossless
from hfd.io.storage import Folder
from pipelines.evaluate.results import ExamplePictures
from tests.support.report_rows import summary_row
from tests.support.scripts import load_script


def test_the_versions_of_a_shown_picture_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = load_script("docs/make_picture.py")
    evaluation, levels = tmp_path / "evaluate/key", (40, 120, 200)
    for index in range(2):
        home = Folder(str(evaluation / f"pictures/{index:08d}"))
        ExamplePictures("a.png", (("original", ""), ("autoencoder", "x_hat"), ("sample", "1 step"))).write(home)
        for place, level in enumerate(levels):
            flat = np.full((400, 360, 3), level + 10 * index, np.uint8)
            home.write(f"{place}.webp", encode_webp_lossless(flat))
    row = summary_row("sample", "1 step", 2, 0.25, 0.25, 27.0, 0.9, 0.5, 250.0, 0.1, 1.0, 2.0)
    (evaluation / "manifest.json").write_text(json.dumps({"facts": {"summary": [row.to_record()]}}))
    (tmp_path / "latest.json").write_text(json.dumps({"report": "evaluate/key/report.html"}))
    script.main(tmp_path, tmp_path / "picture.webp", 1)
    with Image.open(tmp_path / "picture.webp") as picture:
        middle = script.BAND + script.SIDE // 2
        found = [picture.convert("RGB").getpixel((n * (script.SIDE + 4) + script.SIDE // 2, middle)) for n in range(3)]
    assert np.allclose(found, [[level + 10] * 3 for level in levels], atol=2)
    assert "| sample (stage 2) | 1 step | 2 | 0.250 |" in capsys.readouterr().out
