"""Checkpoints written while the training goes on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from hfd.errors import HfdError
from hfd.training.checkpoint import Checkpoints


class BackgroundWriter:
    """Writes snapshots of a state, taken on the host, on a thread of its own: one at a time.

    What goes wrong is kept for :meth:`error`. Leaving the block waits for what is being written.
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
        """Take a snapshot and begin to write it, once the one before is whole."""
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

    def error(self) -> HfdError | None:
        """What went wrong so far, if it is the world's mistake; raised at once, if it is ours."""
        if self._error is None or isinstance(self._error, HfdError):
            return self._error
        raise self._error

    def finish(self) -> HfdError | None:
        """The same, once nothing is being written any more."""
        self._wait()
        return self.error()

    def last_good(self) -> int | None:
        """The step of the newest whole checkpoint."""
        self._wait()
        return self._checkpoints.newest()

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def on_host(state: Any) -> Any:
    """A copy of a nested state on the host, which later steps do not change."""
    if isinstance(state, Tensor):
        copy = state.detach().to("cpu")
        # What was on the host already would be the living tensor; what is part of a larger one, all of that.
        return copy.clone() if copy.device == state.device else copy
    if isinstance(state, Mapping):
        return {key: on_host(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(on_host(value) for value in state)
    return state
