"""High-Fidelity Diffusion image compression (arXiv 2305.18231).

``hfd.compress(image)`` gives the bytes of a file and ``hfd.decompress(data)`` the picture; see :mod:`hfd.api`.
``import hfd.pillow_plugin`` teaches Pillow to open and save such files.

The library: images, crops, the autoencoder, the score-based decoder, the codec, the metrics, the report.
It knows nothing of Ray or MLflow; those live in ``pipelines``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hfd.api import compress, decompress

__version__ = "0.1.0"
__all__ = ["__version__", "compress", "decompress"]


def __getattr__(name: str) -> object:
    """The two functions on first use: they need PyTorch, which takes seconds to import."""
    if name in ("compress", "decompress"):
        from hfd import api

        return globals().setdefault(name, getattr(api, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
