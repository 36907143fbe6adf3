"""Stage 1: ELIC transforms and context model (from CompressAI), the rate-distortion loss, entropy coding."""

import warnings

with warnings.catch_warnings():
    # CompressAI scripts its bounds when it is first imported, which torch announces as deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    import compressai  # noqa: F401
