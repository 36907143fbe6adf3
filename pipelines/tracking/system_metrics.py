"""Log the CPU, memory, disk, network and GPU use of the driver's machine as metrics of a run."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import psutil

from pipelines.tracking.metric_logger import MetricLogger
from pipelines.tracking.redaction import one_line

log = logging.getLogger(__name__)

SYSTEM_METRICS_SECONDS = 10.0


class Sampler:
    """Log the machine's use as metrics of a run, in a thread, until ``stop``.

    MLflow's own monitor thread ends at the first failed request, and may block at the end of a run while the server
    is unavailable; this class uses its collectors without it.
    """

    def __init__(self, logger: MetricLogger) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._collectors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        try:
            self._collectors.append(GPUMonitor())
        except Exception as exc:
            if Path("/dev/nvidia0").exists():
                log.warning("tracking: no GPU metrics (%s). Install nvidia-ml-py", one_line(exc))
        self._logger = logger
        self._step = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hfd-system-metrics", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        psutil.cpu_percent()  # the first call has no interval to measure over
        stopped = False
        while not stopped:
            stopped = self._stopping.wait(SYSTEM_METRICS_SECONDS)  # a last sample at the end, for short steps
            try:
                self._sample()
            except Exception as exc:  # a failed collector must not end the run
                log.warning("tracking: no system metrics (%s)", one_line(exc))
                return

    def _sample(self) -> None:
        for collector in self._collectors:
            collector.collect_metrics()
            values = {f"system/{key}": value for key, value in collector.aggregate_metrics().items()}
            self._logger.log_metrics(self._step, values)
            collector.clear_metrics()
        self._step += 1

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)
