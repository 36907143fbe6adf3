"""Distortion, realism and spectral measures. All maths functions take arrays or tensors, never a config."""
