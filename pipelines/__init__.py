"""The steps of training and evaluating a codec, run on Ray and recorded in MLflow."""
