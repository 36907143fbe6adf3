"""Names of the graphs' files and inputs, for writing and reading them."""

from __future__ import annotations

ANALYSIS = "analysis.onnx"
HYPER_ANALYSIS = "hyper_analysis.onnx"
SYNTHESIS = "synthesis.onnx"
NETWORK = "network.onnx"
NETWORK_KNOWN = "network_known.onnx"
"""Graph of a network with known pixels; used only if there are some."""

GRAPHS = {"autoencoder": (ANALYSIS, HYPER_ANALYSIS, SYNTHESIS), "decoder": (NETWORK, NETWORK_KNOWN)}
"""All graphs, by the part of a model folder."""

X, Y, Z, Y_HAT, X_HAT = "x", "y", "z", "y_hat", "x_hat"
X_IN, NOISE_LEVEL, KNOWN, OUTPUT = "x_in", "noise_level", "known", "output"
