"""Measure the cost of a finished step that is planned and skipped, on a local folder and on S3.

The workspace holds generated steps with manifests and settings like those of a run, so that no training is needed.
Each round alternates between planning and skipping every step, and only reading the same files (open and parse).

    python -m benchmarks.skip [--rounds 20] [--steps 7] [--s3 s3://BUCKET/PREFIX]
    python -m benchmarks.skip --retrain -c PRESET [key=value ...]    # a finished workspace: the whole command

Prints milliseconds per step and the ratio to only reading; with ``--retrain`` the seconds of the command, a note if
Ray was imported, and the ratio to only importing the pipeline.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from hfd.io.storage import Folder
from pipelines.runs.step import Outcome, Step, run_step

SETTINGS = {f"setting_{i}": {"value": i, "list": list(range(8))} for i in range(40)}


def steps_in(workspace: Folder, count: int) -> list[Step]:
    """Return finished steps, each of which reads the one before it."""
    steps: list[Step] = []
    for number in range(count):
        inputs = {"before": steps[-1].key} if steps else {"corpus": "0" * 64}
        step = Step(f"step-{number}", workspace, SETTINGS, inputs)
        run_step(step, lambda folder: Outcome(folder.uri, {"summary": [SETTINGS] * 4}))
        steps.append(step)
    return steps


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def never(_: Folder) -> Outcome:
    raise AssertionError("a finished step ran")


def compare(workspace: Folder, count: int, rounds: int) -> None:
    steps = steps_in(workspace, count)
    times: dict[str, list[float]] = {"skip": [], "plain": []}
    for _ in range(rounds):
        for step in steps:
            # A run checks twice: for its plan, and when it reaches the step.
            times["skip"].append(milliseconds(lambda s=step: (s.manifest(), run_step(s, never))))  # type: ignore[misc]
            times["plain"].append(milliseconds(lambda s=step: json.loads(s.folder.read("manifest.json"))))  # type: ignore[misc]
    skip, plain = (statistics.median(values) for values in times.values())
    print(f"{workspace.uri.partition(':')[0] if not workspace.is_local else 'local'}:")
    print(f"  a skipped step  {skip:.2f} ms (median; longest {max(times['skip']):.1f})")
    print(f"  plain reading   {plain:.2f} ms")
    print(f"  ratio           {skip / plain:.1f}")


def whole_command(arguments: list[str], runs: int = 3) -> None:
    """Time ``hfd retrain`` on a finished workspace, and the import of its modules."""
    code = (
        "import sys, atexit; atexit.register(lambda: print('ray imported:', 'ray' in sys.modules)); "
        "from pipelines.cli import main; sys.argv = ['hfd', 'retrain', *sys.argv[1:]]; main()"
    )
    commands = {
        "hfd retrain": [sys.executable, "-c", code, *arguments],
        "import alone": [sys.executable, "-c", "import pipelines.retrain"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    said = ""
    for _ in range(runs):
        for name, command in commands.items():
            started = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            times[name].append(time.perf_counter() - started)
            if name == "hfd retrain":
                said = done.stdout
            if not said.startswith("nothing to do"):
                raise SystemExit(f"the workspace was not finished:\n{said}")
    print(said, end="")
    for name, values in times.items():
        print(f"{name:<14} {statistics.median(values):.2f} s (median of {runs}, longest {max(values):.2f})")
    planned_steps(arguments, rounds=20)
    print(f"ratio          {statistics.median(times['hfd retrain']) / statistics.median(times['import alone']):.2f}")


def planned_steps(arguments: list[str], rounds: int) -> None:
    """Measure the milliseconds of each finished step: its settings, its inputs' digests and its manifest."""
    from hfd.config.presets import load_config
    from pipelines.retrain import list_inputs
    from pipelines.retrain import plan as plan_all

    _, preset, *overrides = arguments
    config = load_config(preset, overrides)
    inputs = list_inputs(config)
    values = [milliseconds(lambda: plan_all(config, inputs)) for _ in range(rounds)]
    count = len(plan_all(config, inputs))
    print(f"a step         {statistics.median(values) / count:.1f} ms (median of {rounds}, {count} steps)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--s3", help="an s3:// prefix to write made steps to")
    parser.add_argument("--retrain", nargs=argparse.REMAINDER, help="arguments of hfd retrain on a finished workspace")
    options = parser.parse_args()
    if options.retrain:
        whole_command(options.retrain)
        return
    with tempfile.TemporaryDirectory() as scratch:
        compare(Folder(scratch), options.steps, options.rounds)
    if options.s3:
        compare(Folder(options.s3) / "skip", options.steps, options.rounds)


if __name__ == "__main__":
    main()
