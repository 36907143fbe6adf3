"""Run jobs in processes of this machine, with results in the order of the jobs. No torch.

A process that is killed, most likely for lack of memory, costs its own job alone. When the jobs end early, by an error,
by Ctrl-C or by a request to terminate, the processes are ended too; an output is written whole or not at all.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FrameType

from hfd.cli.convert import Ended, Job
from hfd.errors import DataError, HfdError

Work = Callable[[Job], Ended]
"""Does one job. It is sent to the processes, so it must be picklable."""

TERMINATED = 143
"""Exit code after a request to terminate, by the convention of shells: 128 + SIGTERM."""

_END_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """The end of a job, or its error; ``said``: what it printed on standard error."""

    ended: Ended | HfdError
    said: str = ""


@dataclass(frozen=True)
class Limits:
    """``processes``, at most; ``num_bytes``: the memory that they may take together by ``cost_of``, None: any.

    A job whose cost is above the limit runs alone.
    """

    processes: int
    num_bytes: int | None
    cost_of: Callable[[Job], int]


@dataclass(eq=False)
class _Worker:
    """A process and the job it does, as its position in the jobs; None: idle."""

    process: SpawnProcess
    connection: Connection
    job: int | None = None
    num_bytes: int = 0


def in_processes(jobs: Sequence[Job], work: Work, limits: Limits) -> Generator[Outcome, None, None]:
    """Yield the outcome of each job, in order. Processes are spawned when they are needed, each with one thread.

    Raises :class:`RuntimeError` with the traceback of an error in ``work`` that is not an :class:`HfdError`.
    """
    context = multiprocessing.get_context("spawn")
    pool: list[_Worker] = []
    outcomes: dict[int, Outcome] = {}
    started = shown = 0
    with _ended_by_terminate():
        try:
            while shown < len(jobs):
                while started < len(jobs) and (worker := _next_worker(pool, jobs[started], limits, context, work)):
                    worker.job = started
                    with suppress(BrokenPipeError, ConnectionResetError):  # it died: receiving from it says so
                        worker.connection.send(jobs[started])
                    started += 1
                busy = {worker.connection: worker for worker in pool if worker.job is not None}
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]
                    assert worker.job is not None
                    outcomes[worker.job] = _received(worker, jobs[worker.job], pool)
                    worker.job = None
                while shown in outcomes:
                    yield outcomes.pop(shown)
                    shown += 1
        finally:
            _end(pool)


def _next_worker(pool: list[_Worker], job: Job, limits: Limits, context: SpawnContext, work: Work) -> _Worker | None:
    """Return an idle process for a job, or a new one; None while there is no room for the job."""
    for dead in [worker for worker in pool if worker.job is None and not worker.process.is_alive()]:
        pool.remove(dead)
    busy = [worker for worker in pool if worker.job is not None]
    num_bytes = limits.cost_of(job)
    together = num_bytes + sum(worker.num_bytes for worker in busy)
    is_full = limits.num_bytes is not None and together > limits.num_bytes
    if len(busy) == limits.processes or (busy and is_full):
        return None
    idle = next((worker for worker in pool if worker.job is None), None)
    worker = idle or _start(context, work)
    if idle is None:
        pool.append(worker)
    worker.num_bytes = num_bytes
    return worker


def _received(worker: _Worker, job: Job, pool: list[_Worker]) -> Outcome:
    try:
        outcome = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        pool.remove(worker)
        return Outcome(
            DataError(
                f"{job.source}: got a process that was killed ({_exit_of(worker.process)}), expected it to finish. "
                "It most likely lacked memory: give fewer --jobs",
                reason="worker-killed",
            )
        )
    if isinstance(outcome, str):
        raise RuntimeError(f"{job.source}: an error in a process\n{outcome}")
    assert isinstance(outcome, Outcome)
    return outcome


def _exit_of(process: SpawnProcess) -> str:
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _start(context: SpawnContext, work: Work) -> _Worker:
    resource_tracker.ensure_running()  # its first start unblocks signals
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    with _one_thread(), _interrupts_blocked():  # the process inherits both
        process.start()
    theirs.close()
    with suppress(BrokenPipeError, ConnectionResetError):
        ours.send(work)
    return _Worker(process, ours)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let libraries that are imported by a new process use one thread, as many processes as cores use them all."""
    name, before = "OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS")
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Hold Ctrl-C back while a process starts. A terminal sends it to all processes; this one ends the others."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ended_by_terminate() -> Iterator[None]:
    """Turn SIGTERM into an exit that ends the other processes, unless the program handles it."""
    in_main = threading.current_thread() is threading.main_thread()
    is_ours = in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_ours:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


def _end(pool: Sequence[_Worker]) -> None:
    """End all processes: idle ones see their connection close, busy ones remove what they have not finished."""
    for worker in pool:
        worker.connection.close()
        if worker.job is not None:
            worker.process.terminate()
    for worker in pool:
        worker.process.join(_END_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    try:
        work = connection.recv()
        while True:
            connection.send(_outcome(work, connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the other end closed: no more jobs
        return


def _outcome(work: Work, job: Job) -> Outcome | str:
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            return Outcome(work(job), said.getvalue())
        except HfdError as error:
            return Outcome(error, said.getvalue())
        except Exception:
            return traceback.format_exc()
