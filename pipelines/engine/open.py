"""Open the engine that ``cluster.kind`` selects."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from hfd.config import ClusterConfig
from pipelines.engine.base import Engine
from pipelines.engine.devices import check_gpus_here
from pipelines.engine.inline import Inline


@contextlib.contextmanager
def open_engine(config: ClusterConfig, say: Callable[[str], None] = lambda _line: None) -> Iterator[Engine]:
    """Open the engine of a run, ready when the block starts; ``say`` gets a line when it waits for nodes.

    Raises :class:`ConfigError` when it is too small; with ``cluster.wait``, its maps and trainings raise that.
    """
    if config.kind == "inline":
        check_gpus_here(config)
        yield Inline(config)
        return
    from pipelines.engine.on_ray import ray_engine

    with ray_engine(config, say) as engine:
        yield engine
