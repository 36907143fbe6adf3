"""Decode the patches of a picture on the workers of a Ray cluster.

    ray.init(address="auto")
    codec = Codec.load(Folder("s3://bucket/model"))
    picture = codec.render(codec.open(unpack(data)), Request(codec.default_sampling), map_fn=map_on_ray)

Every worker loads the model folder once and must be able to read it; only windows and finished patches are sent. The
result equals that of the builtin ``map`` on the same kind of machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from hfd.codec.patches import Piece, SamplePiece
from hfd.codec.workers import AHEAD, map_ahead
from hfd.errors import ConfigError, DataError
from hfd.image.load import RgbArray

_RETRIES = 2


def map_on_ray(function: SamplePiece, pieces: Iterable[Piece]) -> Iterator[RgbArray]:
    """A :class:`hfd.codec.patches.MapPieces` of tasks of one CPU each, on the cluster this process is connected to.

    A task whose worker dies is repeated at most twice. Raises :class:`ConfigError` without a cluster,
    :class:`DataError` where workers keep dying (``reason="worker-killed"``), and what ``function`` raises.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    if not ray.is_initialized():
        raise ConfigError("ray: got no cluster, expected one. Call ray.init first")
    ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    try:
        yield from map_ahead(_Tasks(ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)), function, pieces, ahead)
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except RayError as error:
        raise DataError(
            f"workers: got some that keep dying ({type(error).__name__}), expected none. Give them more memory",
            reason="worker-killed",
        ) from error


class _Tasks(Executor):
    """Ray's tasks as an executor."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._task.remote(fn, *args, **kwargs).future()
        return future


def _call(function: SamplePiece, piece: Piece) -> RgbArray:
    return function(piece)
