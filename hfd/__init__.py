"""High-Fidelity Diffusion image compression (arXiv 2305.18231).

``hfd.compress(image)`` returns the bytes of a file and ``hfd.decompress(data)`` the picture; see :mod:`hfd.api`.
``import hfd.pillow_plugin`` lets Pillow open and save such files. Ray and MLflow are used in ``pipelines`` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hfd.api import compress, decompress

__version__ = "0.1.0"
__all__ = ["__version__", "compress", "decompress"]


def __getattr__(name: str) -> object:
    """Import the two functions on first use: PyTorch takes seconds to import."""
    if name in ("compress", "decompress"):
        from hfd.engine.openblas import choose_kernels

        choose_kernels()
        from hfd import api

        return globals().setdefault(name, getattr(api, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
