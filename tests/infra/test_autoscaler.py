"""Runs on a cluster without nodes, whose autoscaler adds them when a step asks: Ray's own, with simulated nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.ray_head import RayHead, SimulatedNodes, ray_head
from tests.support.tiny_run import tiny_overrides, write_photographs

pytestmark = [pytest.mark.slow, pytest.mark.integration]

PATIENT = "cluster.wait=30 min"


@pytest.fixture
def cluster() -> Iterator[RayHead]:
    """A head without CPUs, and at most two nodes of two CPUs each, none of which is up."""
    with ray_head(0, {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, SimulatedNodes(cpus=2, most=2)) as head:
        yield head


def hfd(head: RayHead, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the cluster, and return its exit code and its lines."""
    attach = ["cluster.kind=attach", f"cluster.address={head.cluster}"]
    return subprocess.run(
        [sys.executable, "-m", "hfd", *arguments, *attach], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, **head.environment, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip


def test_a_step_waits_for_the_nodes_that_it_needs_and_starts_on_them(tmp_path: Path, cluster: RayHead) -> None:
    settings = tiny_overrides(write_photographs(tmp_path / "photographs"), tmp_path / "w")
    prepared = hfd(cluster, "prepare", "-c", "demo", *settings, PATIENT)
    lines = prepared.stdout + prepared.stderr
    assert prepared.returncode == 0, lines
    assert "cluster.wait: waiting for 1 x (1 CPU and 0 GPU), 0 of these fit the nodes (0 CPU and 0 GPU); 0 s" in lines
    assert re.search(r"cluster\.wait: 1 x \(1 CPU and 0 GPU\) fit the nodes after \d+ s", lines)
    assert len(list((tmp_path / "w").glob("prepare/*/manifest.json"))) == 1

    # Three workers of two CPUs are more than the autoscaler may add: one line, and what was finished is kept.
    many = ("cluster.train_workers=3", "cluster.train_threads=2", "cluster.wait=5 s")
    refused = hfd(cluster, "train-autoencoder", "-c", "demo", *settings, *many)
    assert refused.returncode == 2 and "Traceback" not in refused.stdout + refused.stderr
    assert "cluster.wait: waiting for 3 x (2 CPU and 0 GPU)" in refused.stdout + refused.stderr
    assert "expected what fits the nodes within cluster.wait, which is 5 s" in refused.stderr
    assert len(list((tmp_path / "w").glob("prepare/*/manifest.json"))) == 1
