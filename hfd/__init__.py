"""High-Fidelity Diffusion image compression (arXiv 2305.18231).

The library: images, crops, the autoencoder, the score-based decoder, the codec, the metrics, the report.
It knows nothing of Ray or MLflow; those live in ``pipelines``.
"""

__version__ = "0.1.0"
