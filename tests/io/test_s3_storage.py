"""Folders on S3: names, uploads that break off, refusals, and a server that goes away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hfd.data.crops import Crop
from hfd.data.shards import iterate_rows, open_shard, shard_name
from hfd.errors import DataError
from hfd.io import failures
from hfd.io import s3 as s3_module
from hfd.io.storage import Folder
from tests.support.errors import one_line
from tests.support.processes import KILLED_WRITER
from tests.support.s3_proxy import Proxy


def test_s3_prefixes_may_hold_spaces_and_other_scripts(s3: Folder) -> None:
    odd = s3 / "größe 写真 1"
    odd.write("x y", b"data")
    assert odd.read("x y") == b"data"
    assert [entry.key for entry in s3.files()] == ["größe 写真 1/x y"]
    assert Folder(f"{s3.uri}/gr%C3%B6%C3%9Fe%20写真 1").read("x y") == b"data"


def test_an_s3_prefix_that_holds_nothing_is_empty(s3: Folder) -> None:
    assert s3.files() == []
    assert not s3.exists()
    s3.sweep_temporaries()


def test_a_large_object_round_trips(s3: Folder) -> None:
    data = os.urandom(2**20) * 11  # three parts of 5 MiB
    with s3.writing("big") as stream:
        for start in range(0, len(data), 1_000_003):
            stream.write(data[start : start + 1_000_003])
    assert s3.read("big") == data


def test_a_wrong_bucket_is_one_clear_line(s3: Folder) -> None:
    wrong = Folder("s3://no-such-bucket/x")
    assert not wrong.exists("a")
    with pytest.raises(DataError, match="s3://no-such-bucket/x: got no such bucket") as error:
        wrong.files()
    one_line(error)
    with pytest.raises(DataError, match="s3://no-such-bucket/x/a: got no such bucket") as error:
        wrong.write("a", b"x")
    one_line(error)
    with pytest.raises(DataError, match="s3://no-such-bucket/x/a: got no such file") as error:
        wrong.read("a")
    one_line(error)
    assert s3.files() == []


def test_a_wrong_secret_is_one_line_that_names_the_variables(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.write("a", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    for attempt in (lambda: s3.read("a"), lambda: s3.write("b", b"x"), s3.files, lambda: s3.delete("a")):
        with pytest.raises(DataError, match=r"the server refuses .* AWS_SECRET_ACCESS_KEY") as error:
            attempt()
        assert "not-the-secret" not in one_line(error)
        assert error.value.reason == "permission"


def test_an_upload_that_breaks_off_publishes_nothing(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION during UploadPart operation: curlCode: 56")

    with monkeypatch.context() as patch:
        patch.setattr(s3_module, "upload", fail)
        patch.setattr(failures, "WAITS_S", ())
        with pytest.raises(DataError, match="no connection to the server") as error:
            s3.write("x", b"data")
    assert error.value.reason == "connection"
    assert s3.files() == []


@pytest.mark.integration
def test_a_full_disk_of_temporary_files_is_named_with_its_folder(s3: Folder) -> None:
    with pytest.raises(DataError) as error, s3.writing("whole.bin"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.reason == "disk-full"
    assert str(error.value).startswith(f"{s3.uri}/whole.bin through {tempfile.gettempdir()}: the disk is full")
    assert not s3.exists("whole.bin")


def test_a_killed_s3_writer_publishes_nothing(s3: Folder, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, s3.uri], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert s3.files() == []


@pytest.fixture
def proxy(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server of ``s3``, which reaches it through there."""
    proxy = Proxy(os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    assert s3.files() == []  # the server has answered
    yield proxy
    proxy.close()


def test_a_server_that_answers_a_third_with_503_costs_nothing_but_time(
    s3: Folder, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "WAITS_S", (0.01,) * 20)
    proxy.share_of_503 = 0.3
    x = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for index in range(3):
        s3.write(f"small/{index}", b"abc")
        assert s3.read(f"small/{index}") == b"abc" and s3.exists(f"small/{index}")
    with open_shard(s3, shard_name("train", 0, 1), ("x",)) as writer:
        writer.add(Crop("a", "a", "a", {"x": x}))
    (row,) = iterate_rows(s3, "train")
    assert np.array_equal(row.pictures["x"], x)
    s3.delete("small/0")
    assert [entry.key for entry in s3.files()] == ["small/1", "small/2", "train-00000-of-00001.parquet"]
    assert proxy.refused > 0


def test_a_server_that_comes_back_is_waited_for(s3: Folder, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "WAITS_S", (0.05,) * 100)
    s3.write("before", b"x")
    proxy.down = True

    def come_back() -> None:
        while not proxy.refused:
            time.sleep(0.01)
        proxy.down = False

    threading.Thread(target=come_back, daemon=True).start()
    s3.write("after", b"y" * 6_000_000)
    assert proxy.refused > 0
    assert (s3.read("before"), len(s3.read("after"))) == (b"x", 6_000_000)


def test_an_upload_that_the_server_refuses_is_never_taken_for_done(
    s3: Folder, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "WAITS_S", ())
    proxy.share_of_503 = 1.0
    for size in (0, 1_000, 12_000_000):
        with pytest.raises(DataError) as error:
            s3.write("x", b"a" * size)
        assert error.value.is_outage and "\n" not in str(error.value)
    proxy.share_of_503 = 0.0
    assert s3.files() == []


def test_folders_of_a_bucket_share_a_connection(s3: Folder, proxy: Proxy) -> None:
    for index in range(10):
        (s3 / f"folder {index % 3}").write("x", bytes(index))
        assert Folder((s3 / f"folder {index % 3}").uri).read("x") == bytes(index)
    assert proxy.connections == 1


READER = """
import os, sys
from hfd.io.storage import Folder
folder = Folder(sys.argv[1])
assert folder.read("x") == b"data"
if (child := os.fork()) == 0:
    os._exit(0 if folder.read("x") == b"data" else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert folder.read("x") == b"data"
"""


def test_a_forked_process_opens_a_connection_of_its_own(s3: Folder, proxy: Proxy) -> None:
    s3.write("x", b"data")
    before = proxy.connections
    subprocess.run([sys.executable, "-c", READER, s3.uri], check=True)
    assert proxy.connections - before == 2
