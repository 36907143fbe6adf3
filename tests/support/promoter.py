"""A process that makes a version champion, beside others, as ``python -m tests.support.promoter``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hfd.errors import HfdError
from pipelines.registry.champion import Registry
from pipelines.tracking.client import open_client


def promote(registry: Registry, digest: str, folder: Path, rounds: int) -> None:
    """Make the version of a digest champion in each round, unless it is already; print the version it replaced."""
    version = registry.find(digest)
    assert version is not None
    for number in range(rounds):
        while not (folder / f"go {number}").exists():
            time.sleep(0.001)
        champion = registry.champion()
        if champion is not None and champion.number == version.number:
            print("kept", flush=True)
            continue
        try:
            registry.make_champion(version, champion)
            print(f"won {champion.number if champion is not None else 0}", flush=True)
        except HfdError as error:
            assert "\n" not in str(error)
            print(f"refused {error}", flush=True)


if __name__ == "__main__":
    uri, model, digest, waiting, rounds = sys.argv[1:]
    client = open_client(uri)
    client.search_registered_models()
    print("ready", flush=True)
    promote(Registry(client, uri, model), digest, Path(waiting), int(rounds))
