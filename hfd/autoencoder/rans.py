"""CompressAI's compiled rANS coder without the package around it, which takes seconds to import. No torch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path
from types import ModuleType

from hfd.errors import ConfigError

_PACKAGE, _MODULE = "compressai", "ans"


@lru_cache(maxsize=1)
def rans() -> ModuleType:
    """The module ``compressai.ans``: by its file, or from the package where that is imported or has no such file.

    Raises :class:`ConfigError` if there is none.
    """
    name = f"{_PACKAGE}.{_MODULE}"
    file = None if _PACKAGE in sys.modules else _file()
    try:
        if file is None or name in sys.modules:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, file, loader=ExtensionFileLoader(name, str(file)))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"{_PACKAGE}: got no coder ({why}), expected its module. Install hfd again") from error
    # Its types can be made once in a process: a later import of the package is to find these.
    return sys.modules.setdefault(name, module)


def _file() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)  # of a package at the top, this imports nothing
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = (Path(folder) / f"{_MODULE}{suffix}" for folder in folders for suffix in EXTENSION_SUFFIXES)
    return next((path for path in found if path.is_file()), None)
