"""Silence Pillow's warnings while pictures are read."""

from __future__ import annotations

import threading
import warnings
from contextlib import AbstractContextManager


class _PillowWarningsOff(AbstractContextManager[None]):
    """Silence Pillow's warnings while any thread decodes: this package checks sizes itself.

    Re-entrant and shared by threads: two threads that enter ``warnings.catch_warnings`` in turn would restore the
    filters in the wrong order and leave warnings off.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._filters: warnings.catch_warnings[None]

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._depth += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._filters.__exit__(None, None, None)


pillow_warnings_off = _PillowWarningsOff()
