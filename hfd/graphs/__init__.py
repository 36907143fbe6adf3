"""ONNX graphs of the networks, whose weights stay in ``weights.safetensors``."""
