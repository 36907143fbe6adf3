"""Writing of checkpoints in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from hfd.errors import HfdError
from hfd.training.checkpoint import Checkpoints


class BackgroundWriter:
    """Writes snapshots of a state in a thread, one at a time. :meth:`error` reports failures.

    Leaving the block waits for the last write.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Wait for the last write, take a snapshot on the host, and begin to write it."""
        self._wait()
        if self._error is not None:
            return
        snapshot = on_host(state)

        def write() -> None:
            try:
                self._checkpoints.save(step, snapshot)
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=write, name="hfd-checkpoint", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while the last write goes on."""
        return self._thread is not None and self._thread.is_alive()

    def error(self) -> HfdError | None:
        """Return an :class:`HfdError` of a write, if any; raise any other exception."""
        if self._error is None or isinstance(self._error, HfdError):
            return self._error
        raise self._error

    def finish(self) -> HfdError | None:
        """Wait for the last write and return its error."""
        self._wait()
        return self.error()

    def last_good(self) -> int | None:
        """Return the step of the newest complete checkpoint."""
        self._wait()
        return self._checkpoints.newest()

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def on_host(state: Any) -> Any:
    """Copy a nested state to the host."""
    if isinstance(state, Tensor):
        copy = state.detach().to("cpu")
        # A tensor already on the host needs a copy of its own, without the rest of a larger storage.
        return copy.clone() if copy.device == state.device else copy
    if isinstance(state, Mapping):
        return {key: on_host(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(on_host(value) for value in state)
    return state
