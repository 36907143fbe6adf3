"""A workspace recorded with the code before the move into rooms: manifests and ``latest.json``, no photographs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.paths import ROOT

RECORDED = ROOT / "tests/pipelines/runs/workspace-of-0.1.0"
"""Made by ``retrain(tiny_config("photographs", "workspace"))`` on ``write_photographs("photographs")``."""

MODIFIED_NS = 10**18
SIZES = {
    "photo 0.png": 81965, "photo 1.jpg": 12784, "photo 2.png": 82774, "photo 3.jpg": 12822,
    "photo 4.png": 83451, "photo 5.jpg": 12832, "photo 6.png": 83370, "photo 7.jpg": 13004,
}  # fmt: skip
"""Bytes of the photographs: with the time of modification all that a listing in a folder knows of them."""


def copy_recorded(folder: Path) -> tuple[Path, Path]:
    """Copy the workspace into ``folder``, beside empty files with the photographs' sizes and times.

    Returns the photographs' folder and the workspace.
    """
    photographs, workspace = folder / "photographs", folder / "workspace"
    photographs.mkdir()
    for name, size in SIZES.items():
        (photographs / name).touch()
        os.truncate(photographs / name, size)
        os.utime(photographs / name, ns=(MODIFIED_NS, MODIFIED_NS))
    shutil.copytree(RECORDED, workspace)
    return photographs, workspace
