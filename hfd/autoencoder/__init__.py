"""Stage 1: ELIC transforms and context model (from CompressAI), the rate-distortion loss, entropy coding."""
