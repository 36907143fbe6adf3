"""A year of scheduled retrainings in an hour, with a random fault in each week, and checks after each.

    python -m benchmarks.soak.year --folder FOLDER [--weeks 52] [--seed 0] [--faults none,s3-down] [--report PAGE]

On this machine: SeaweedFS behind a proxy that fails on demand, an MLflow server, and a corpus on S3 to which each week
adds pictures, replaces some and deletes some. Each week runs ``hfd retrain`` in its own process, as the manifests under
infra/ schedule it, with a tiny model, and then ``hfd clean --yes``. The fault of a week is drawn from the seed, and so
is its moment: a request to S3 of one of the steps. Kills of workers and nodes and the picture that kills its worker
need a cluster: see benchmarks.faults.matrix.

    done       the retraining ended with exit code 0
    rerun      it stopped with exit code 2 and one line, or was killed, and the same command completed it
    by hand    deleted-output: the line named the output that lacks a file, and the command completed without it
    FAILED     anything else, or a check that failed; the problems are printed, and the exit code is 1

Checked each week: the photo table holds every object of the corpus once and rejects none but duplicates and the
pictures that the fault damaged or deleted; the champion changes only to a model with better figures, and has its
recorded figures when it is measured again; the cleaning keeps whole what latest.json, the champion and the last
promotions need, and the workspace below (last runs + registered versions + 2) times the largest run; in MLflow, no run
stays RUNNING or lacks its parent, but a kill or an outage of MLflow may leave runs open until the next week.

A killed soak continues at its week with the same command. The fault disk-full needs root, to mount a small tmpfs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.soak.plan import FAULTS, plan_weeks
from benchmarks.soak.records import Journal
from benchmarks.soak.report import HEADER, RULE, markdown, row, summary
from benchmarks.soak.week import run_week
from benchmarks.soak.world import world_of
from benchmarks.startup import processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="state of the soak; a killed one continues there")
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"some of {', '.join(FAULTS)}")
    parser.add_argument("--report", type=Path, help="Markdown page to write")
    options = parser.parse_args()
    faults = tuple(options.faults.split(","))
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"--faults: got {', '.join(sorted(unknown))}, expected some of {', '.join(FAULTS)}")
    if "disk-full" in faults and os.geteuid() != 0:
        parser.error("--faults: disk-full needs root, to mount a small tmpfs. Leave it out, or run as root")
    folder = options.folder.resolve()
    _claim(folder, {"seed": options.seed, "faults": list(faults)})
    weeks, journal = plan_weeks(options.seed, options.weeks, faults), Journal(folder / "weeks.jsonl")
    print(f"{processor()}\n\n{HEADER}\n{RULE}", flush=True)
    for record in journal.read()[: options.weeks]:
        print(row(record))
    with world_of(folder) as world:
        while len(done := journal.read()) < options.weeks:
            week = weeks[len(done)]
            before = weeks[len(done) - 1] if done else None
            record = run_week(world, week, before, done[-1] if done else None)
            journal.add(record)
            print("\n".join([row(record), *record.problems]), flush=True)
    records = journal.read()[: options.weeks]
    if options.report is not None:
        command = f"python -m benchmarks.soak.year --weeks {options.weeks} --seed {options.seed}"
        command += f" --faults {options.faults}" if faults != FAULTS else ""
        options.report.write_text(markdown(records, options.weeks, [f"`{command}`", "", f"{processor()}."]))
    print(f"\n{summary(records, options.weeks)}")
    sys.exit(int(any(record.problems for record in records)))


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Make the folder, or check that it holds a soak of the same settings."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "soak.json"
    if not path.exists():
        path.write_text(json.dumps(settings))
    elif json.loads(path.read_text()) != settings:
        raise SystemExit(f"{folder}: got a soak of {path.read_text()}, expected {json.dumps(settings)}. Give another")


if __name__ == "__main__":
    main()
