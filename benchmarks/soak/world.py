"""The servers of a soak in its folder, the commands of a week, and the corpus on S3."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.faults.parts import Mlflow, Store
from benchmarks.soak.checks import KEEP_LAST
from benchmarks.soak.plan import Picture, Week
from tests.support.pictures import photograph
from tests.support.s3_proxy import Proxy
from tests.support.s3_server import S3Server, find_weed, s3_server
from tests.support.tiny_run import jpeg, tiny_overrides

PHOTOGRAPHS, PICTURES, WORKSPACE = "s3://tests/photographs", "s3://tests/pictures", "s3://tests/work"
MODEL = "soak"
NUM_PICTURES = 4
MAX_PSNR_LOSS_DB, MAX_BPP_RISE = 0.1, 0.25
"""Limits of the gate: tiny models differ widely in rate."""

LR = 2e-3
"""Learning rate at which some steps from random weights make a difference."""

_MARK = "HFD_BENCHMARK_SOAK"
"""Variable that every process of a soak inherits; its value is the folder."""


@dataclass(frozen=True)
class World:
    """Servers, and the environment of commands, whose S3 is the proxy."""

    server: S3Server
    store: Store
    proxy: Proxy
    mlflow: Mlflow
    environment: dict[str, str]

    def retraining(self, week: Week) -> list[str]:
        """The retraining of the scheduled manifests, with a tiny model on one core."""
        settings = tiny_overrides(
            PHOTOGRAPHS, WORKSPACE, f"tracking.uri={self.mlflow.uri}", "cluster.kind=inline",
            "prepare.photos_per_shard=4", "prepare.max_reject_share=0.3", f"evaluate.data={PICTURES}",
            "evaluate.baselines=[]", "evaluate.max_images=null", "decoder.adversarial=null", f"promote.model={MODEL}",
            f"promote.max_psnr_loss_db={MAX_PSNR_LOSS_DB}", f"promote.max_bpp_rise={MAX_BPP_RISE}",
            f"autoencoder.train.lr={LR}", f"decoder.train.lr={LR}",
            "autoencoder.train.checkpoint_every_s=2", "decoder.train.checkpoint_every_s=2", steps=week.steps,
        )  # fmt: skip
        return [sys.executable, "-m", "hfd", "retrain", "-c", "demo", *settings]

    def cleaning(self) -> list[str]:
        """The cleaning of the scheduled manifests; weeks last a minute here, so that no age protects an output."""
        settings = [f"workspace={WORKSPACE}", f"tracking.uri={self.mlflow.uri}"]
        command = [sys.executable, "-m", "hfd", "clean", "-c", "demo", *settings]
        return [*command, "--keep-last", str(KEEP_LAST), "--older-than", "0s", "--yes"]

    def set_corpus(self, week: Week, before: Week | None) -> None:
        """Make the photographs on S3 those of a week; repeated after a kill, it changes nothing."""
        there = {item.key.rpartition("/")[2] for item in self.store.objects(f"{PHOTOGRAPHS}/")}
        for name in there - set(week.names):
            self.store.delete(f"{PHOTOGRAPHS}/{name}")
        earlier = set(before.corpus) if before is not None else set()
        for picture in week.corpus:
            if picture not in earlier or picture.name not in there:
                self.store.put(f"{PHOTOGRAPHS}/{picture.name}", encode(picture))
        for name in week.damaged:
            whole = encode(Picture(name, week.number))
            self.store.put(f"{PHOTOGRAPHS}/{name}", whole[: len(whole) // 3] if name.endswith("0.jpg") else whole[64:])

    @contextlib.contextmanager
    def watching(self, week: Week) -> Iterator[threading.Event]:
        """Set the event at the request to S3 at which the fault of a week begins."""
        moment, count, lock = threading.Event(), 0, threading.Lock()
        place = f"/{WORKSPACE.rpartition('/')[2]}/{week.step}"

        def watch(_method: str, path: str) -> None:
            nonlocal count
            if place in path:
                with lock:
                    count += 1
                    if count >= week.request:
                        moment.set()

        self.proxy.watch = watch
        try:
            yield moment
        finally:
            self.proxy.watch = lambda _method, _path: None


def encode(picture: Picture) -> bytes:
    """Return the JPEG of a photograph, of a size from its seed."""
    side = picture.seed % 8
    return jpeg(160 + 5 * side, 200 - 5 * side, picture.seed)


def end_leftovers(folder: Path) -> None:
    """End the servers and commands that a killed soak of this folder left, by the variable that they inherited."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(_MARK) == str(folder):
                process.kill()
                process.wait(10)


@contextlib.contextmanager
def world_of(folder: Path) -> Iterator[World]:
    """Run the servers of a soak. Raises :class:`SystemExit` with one line if another soak uses the folder."""
    weed = find_weed()
    if weed is None:
        raise SystemExit("the binary weed is missing: install hfd[dev]")
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SystemExit(f"{folder}: another soak works there. Wait for it, or give another --folder") from error
        end_leftovers(folder)
        os.environ[_MARK] = str(folder)
        server = stack.enter_context(s3_server(weed, folder))
        proxy = Proxy(server.environment["AWS_ENDPOINT_URL"])
        stack.callback(proxy.close)
        environment = os.environ | server.environment | {
            "AWS_ENDPOINT_URL": proxy.url,
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        port = folder / "mlflow.port"  # the key of a promotion includes the address of its registry
        known = int(port.read_text()) if port.exists() else None
        mlflow = stack.enter_context(Mlflow(folder, environment, known))
        port.write_text(str(mlflow.port))
        world = World(server, Store(server.environment), proxy, mlflow, environment)
        for number in range(NUM_PICTURES):
            buffer = io.BytesIO()
            Image.fromarray(photograph(192, 192, seed=10_000 + number)).save(buffer, "PNG")
            world.store.put(f"{PICTURES}/picture {number}.png", buffer.getvalue())
        yield world
