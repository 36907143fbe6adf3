"""Processes that a test started: find them, and act at a moment of their work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

KILLED_WRITER = """
import os, signal, sys
from hfd.io.storage import Folder
with Folder(sys.argv[1]).writing("x.parquet") as stream:
    stream.write(bytes(100_000))
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""A program that dies while it writes into the folder of its argument."""


def descendants(name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if name in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@contextmanager
def once(ready: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` from another thread at the moment ``ready``, should it come inside the block."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            if ready():
                act()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
