"""The networks of both stages on NumPy arrays, evaluated by ONNX Runtime or by torch."""
