"""Names of the graphs' files and of their inputs, for those that write and those that read them."""

from __future__ import annotations

ANALYSIS = "analysis.onnx"
HYPER_ANALYSIS = "hyper_analysis.onnx"
SYNTHESIS = "synthesis.onnx"
NETWORK = "network.onnx"
NETWORK_KNOWN = "network_known.onnx"
"""Of a network that continues pixels that are known; used only where there are some."""

GRAPHS = {"autoencoder": (ANALYSIS, HYPER_ANALYSIS, SYNTHESIS), "decoder": (NETWORK, NETWORK_KNOWN)}
"""All of them, by the part of a model folder."""

X, Y, Z, Y_HAT, X_HAT = "x", "y", "z", "y_hat", "x_hat"
X_IN, NOISE_LEVEL, KNOWN, OUTPUT = "x_in", "noise_level", "known", "output"
