"""Record features of DINOv2's own network with random weights, for tests of ours: its repository is no package.

    git clone https://github.com/facebookresearch/dinov2
    PYTHONPATH=. python tests/metrics/record_dinov2.py dinov2

writes ``tests/metrics/dinov2_features.json``: the class tokens (2, 384) of the small network, built as in its hubconf,
of two patches of 224 px. Recorded at b8931f7 (Apache 2.0), torch 2.14.1.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from tests.support.backbones import random_dinov2
from tests.support.pictures import photograph

RECORDED = Path(__file__).parent / "dinov2_features.json"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(checkout: Path) -> None:
    os.environ["XFORMERS_DISABLED"] = "1"
    sys.path.insert(0, str(checkout))
    from dinov2.models.vision_transformer import vit_small

    network = vit_small(
        img_size=518, patch_size=14, init_values=1.0, ffn_layer="mlp", block_chunks=0,
        interpolate_antialias=False, interpolate_offset=0.1,
    ).eval()  # fmt: skip
    network.load_state_dict(random_dinov2(), strict=True)
    patches = torch.stack([torch.from_numpy(photograph(224, 224, seed=seed)).permute(2, 0, 1) for seed in (0, 1)])
    mean, std = (torch.tensor(one).reshape(3, 1, 1) for one in (MEAN, STD))
    with torch.no_grad():
        features = network((patches.float() / 255.0 - mean) / std)
    rows = [[round(value, 5) for value in row] for row in features.tolist()]
    RECORDED.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
