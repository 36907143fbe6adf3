"""The parts of CompressAI in use. Importing this module imports the package and torch."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # CompressAI compiles its bounds with TorchScript on import, which torch reports as deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from compressai.entropy_models import EntropyBottleneck, GaussianConditional
    from compressai.layers import GDN
    from compressai.models.base import get_scale_table
    from compressai.models.google import MeanScaleHyperprior
    from compressai.models.sensetime import Elic2022Official
    from compressai.ops import quantize_ste

__all__ = [
    "GDN",
    "Elic2022Official",
    "EntropyBottleneck",
    "GaussianConditional",
    "MeanScaleHyperprior",
    "get_scale_table",
    "quantize_ste",
]
