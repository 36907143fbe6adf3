"""Stage 1: ELIC transforms and context model (from CompressAI), rate-distortion loss, entropy coding."""
