"""Step promote: the champion of a registered model changes only if a candidate beats it."""
