"""Stage 1: ELIC transforms and context model (from CompressAI), rate-distortion loss, entropy coding."""

import warnings

with warnings.catch_warnings():
    # CompressAI compiles its bounds with TorchScript on import, which torch reports as deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    import compressai  # noqa: F401
