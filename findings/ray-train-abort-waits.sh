#!/usr/bin/env bash
# ray 2.60.0: a training of Ray Train whose workers cannot start (a lost node, a full cluster) does not end at Ctrl-C.
# The first SIGINT waits for the controller's abort, which the controller does not handle while it waits for its workers
# (ten minutes by default). Expected: what its message says, a graceful abort within a few seconds; seen: none within 60 s.
# The third SIGINT ends it at once. Seen on 2026-11-29. Exits with 1 once this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ray[train]==2.60.0"
cat > "$folder/training.py" <<'PY'
import sys
import time

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print("begins", flush=True)
trainer = DataParallelTrainer(
    lambda config: time.sleep(3600),
    scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
    run_config=RunConfig(storage_path=sys.argv[1]),
)
trainer.fit()
PY
cat > "$folder/signals.py" <<'PY'
import os
import signal
import subprocess
import sys
import time

python, script, storage = sys.argv[1:]
environment = {**os.environ, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600", "RAY_USAGE_STATS_ENABLED": "0"}
LONGEST_S = 60.0


def seconds(interrupts: int) -> float:
    """Seconds from the first interrupt to the end of a training whose workers cannot start; at most ``LONGEST_S``."""
    process = subprocess.Popen(
        [python, script, storage], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "begins":
        pass
    time.sleep(20)
    begun = time.monotonic()
    for _ in range(interrupts):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    try:
        process.wait(LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return LONGEST_S
    return time.monotonic() - begun


one, three = seconds(1), seconds(3)
print(f"ray 2.60.0: ended {one:.0f} s after one SIGINT ({LONGEST_S:.0f}: not by then), {three:.0f} s after three")
sys.exit(not (one == LONGEST_S and three < LONGEST_S / 2))
PY
"$folder/venv/bin/python" "$folder/signals.py" "$folder/venv/bin/python" "$folder/training.py" "$folder/results"
