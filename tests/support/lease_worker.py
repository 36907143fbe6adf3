"""A process that takes a workspace's lease: ``python -m tests.support.lease_worker TASK WORKSPACE FOLDER``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from hfd.config import LeaseConfig
from hfd.errors import HfdError
from hfd.io.storage import Folder
from pipelines.runs.lease import lease

QUICK = {"heartbeat_s": 0.2, "expires_s": 0.8}


def race(workspace: Folder, folder: Path) -> None:
    """Take the workspace whenever it is free, ``ROUNDS`` times; two holders at once would collide at the marker."""
    rounds, marker = 0, folder / "inside"
    while rounds < int(os.environ["ROUNDS"]):
        try:
            with lease(workspace, LeaseConfig()):
                descriptor = os.open(marker, os.O_CREAT | os.O_EXCL)
                time.sleep(0.01)
                os.close(descriptor)
                marker.unlink()
                rounds += 1
        except HfdError as error:
            assert "held by" in str(error) or "keeps changing" in str(error), error
            time.sleep(0.002)
    print(rounds)


def hold(workspace: Folder, folder: Path) -> None:
    """Hold the workspace until killed, or until the lease is lost; then print the error."""
    try:
        with lease(workspace, LeaseConfig(name="holder", **QUICK)) as held:
            assert held is not None
            (folder / "held").touch()
            while True:
                time.sleep(60)
    except HfdError as error:
        print(error)
        sys.exit(2)


def grab(workspace: Folder, folder: Path) -> None:
    """Try once, at the same time as others; the holder keeps the lease until all have tried."""
    while not (folder / "go").exists():
        time.sleep(0.001)
    try:
        with lease(workspace, LeaseConfig()):
            print("mine", flush=True)
            while not (folder / "done").exists():
                time.sleep(0.01)
    except HfdError:
        print("refused", flush=True)


if __name__ == "__main__":
    {"race": race, "hold": hold, "grab": grab}[sys.argv[1]](Folder(sys.argv[2]), Path(sys.argv[3]))
