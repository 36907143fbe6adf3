"""Run a command line in this process, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a mistake: exit code 2, nothing on standard output, no traceback."""
        assert (self.code, self.out) == (2, "")
        assert self.err.startswith("hfd: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("hfd: ").rstrip("\n")


Hfd = Callable[..., Ended]
