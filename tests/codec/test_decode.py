"""A file is unpacked, parsed and planned once per decode."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

import hfd
from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.codec.sampling_options import decode_sampling
from hfd.geometry.plan import plan_picture
from hfd.io.storage import Folder
from tests.support.pictures import photograph

ONCE = {one.__code__: one.__name__ for one in (unpack, decode_sampling, plan_picture, inspect.unwrap(Codec.open))}
"""Functions that are expensive, or that decide something."""


@pytest.mark.parametrize("region", [None, (10, 20, 30, 40)])
def test_a_decode_does_everything_once(
    model_folder: Folder, tmp_path: Path, region: tuple[int, int, int, int] | None
) -> None:
    model = model_folder.uri
    (tmp_path / "a.hfd").write_bytes(hfd.compress(photograph(70, 90), model=model, steps=2, seed=5))
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in ONCE:
            calls[ONCE[frame.f_code]] += 1

    sys.setprofile(count)
    try:
        hfd.decompress(tmp_path / "a.hfd", model=model, region=region)
    finally:
        sys.setprofile(None)
    assert calls == dict.fromkeys(ONCE.values(), 1)
