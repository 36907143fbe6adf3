"""Folders, local and S3: whole or nothing, listing, and the world's failures as one line."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
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
from hfd.io.storage import Folder, write_file
from tests.support.s3_proxy import Proxy

NAMES = ["plain.bin", "with space.bin", "größe 写真 🙂.bin", "per%20cent#and?query&=+.bin", "a/b/c.bin"]


def _one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder of either kind; what it promises is the same."""
    if request.param == "local":
        (tmp_path / "folder").mkdir()
        return Folder(str(tmp_path / "folder"))
    s3: Folder = request.getfixturevalue("s3")
    return s3


# --- what both kinds promise ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_read_and_listed(folder: Folder, name: str) -> None:
    data = bytes(range(256)) * 5
    folder.write(name, data)
    assert folder.read(name) == data
    assert folder.exists(name)
    assert [(entry.key, entry.size) for entry in folder.files()] == [(name, len(data))]


def test_an_empty_file_is_a_file(folder: Folder) -> None:
    folder.write("empty", b"")
    assert folder.read("empty") == b""
    assert [(entry.key, entry.size) for entry in folder.files()] == [("empty", 0)]


def test_files_are_sorted_by_key_and_hide_dotfiles(folder: Folder) -> None:
    for name in ["b.txt", "a/z.txt", "a.txt", "B.txt", ".hidden", "c/.hidden/x.txt", "c/.tmp-x", "ä.txt"]:
        folder.write(name, b"x")
    keys = [entry.key for entry in folder.files()]
    assert keys == sorted(["b.txt", "a/z.txt", "a.txt", "B.txt", "ä.txt"])


def test_a_listing_of_a_subfolder_has_keys_relative_to_it(folder: Folder) -> None:
    folder.write("a/b/c.txt", b"x")
    folder.write("ab/d.txt", b"x")
    assert [entry.key for entry in (folder / "a").files()] == ["b/c.txt"]


def test_a_second_write_replaces_the_first(folder: Folder) -> None:
    folder.write("x", b"first, and longer")
    folder.write("x", b"second")
    assert folder.read("x") == b"second"
    assert [entry.size for entry in folder.files()] == [6]


@pytest.mark.parametrize("size", [10, 12 * 2**20])  # below and above what an upload sends as one part
def test_a_block_that_fails_publishes_nothing(folder: Folder, size: int) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), folder.writing("x") as stream:
        stream.write(bytes(size))
        raise RuntimeError("in the middle")
    assert not folder.exists("x")
    assert folder.files() == []


def test_a_block_that_fails_leaves_the_former_file(folder: Folder) -> None:
    folder.write("x", b"former")
    with pytest.raises(KeyboardInterrupt), folder.writing("x") as stream:
        stream.write(b"latter")
        raise KeyboardInterrupt
    assert folder.read("x") == b"former"


def test_nothing_is_seen_before_the_block_ends(folder: Folder) -> None:
    with folder.writing("x") as stream:
        stream.write(bytes(1000))
        stream.flush()
        assert not folder.exists("x")
        assert folder.files() == []
    assert len(folder.read("x")) == 1000


def test_a_missing_file_is_named(folder: Folder) -> None:
    folder.write("other", b"x")
    for attempt in (folder.read, folder.open_input):
        with pytest.raises(DataError) as error:
            attempt("nothing here")
        assert _one_line(error).startswith(f"{folder.uri}/nothing here: got no such file")
        assert error.value.reason == "missing"


def test_delete_takes_files_folders_and_what_is_not_there(folder: Folder) -> None:
    for name in ["a/one", "a/two", "b"]:
        folder.write(name, b"x")
    folder.delete("b")
    folder.delete("never was")
    assert [entry.key for entry in folder.files()] == ["a/one", "a/two"]
    folder.delete("a")
    assert folder.files() == []


def test_open_input_seeks(folder: Folder) -> None:
    folder.write("x", bytes(range(100)))
    with folder.open_input("x") as file:
        file.seek(40)
        assert file.read(3) == bytes([40, 41, 42])
        assert file.size() == 100


def test_a_folder_survives_pickling(folder: Folder) -> None:
    folder.write("x", b"y")
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder
    assert again.read("x") == b"y"
    assert b"SECRET" not in pickle.dumps(folder).upper()


# --- local only ----------------------------------------------------------------------------------


def test_a_missing_local_folder_is_an_error_to_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got no such folder") as error:
        Folder(str(tmp_path / "nowhere")).files()
    assert error.value.reason == "missing"


def test_listing_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="got a file, expected a folder"):
        Folder(str(tmp_path / "file")).files()


def test_writing_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError) as error:
        Folder(str(tmp_path / "file")).write("x", b"y")
    assert "file" in _one_line(error)
    with pytest.raises(DataError) as error:
        write_file(tmp_path / "file" / "x", b"y")
    _one_line(error)


def test_file_uris_and_plain_paths_are_the_same_folder(tmp_path: Path) -> None:
    Folder(f"file://{tmp_path}").write("x", b"y")
    assert Folder(str(tmp_path)).read("x") == b"y"
    assert Folder(f"file://{tmp_path}").path == tmp_path


def test_a_local_stamp_changes_with_the_file(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("x", b"one")
    before = folder.files()[0]
    os.utime(tmp_path / "x", ns=(1, 1))
    assert folder.files()[0].stamp != before.stamp


def test_remote_folders_have_no_path() -> None:
    with pytest.raises(DataError, match="expected a local folder"):
        _ = Folder("s3://bucket/x").path


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3:///x", "nonsense://"])
def test_an_unusable_uri_is_one_line(uri: str) -> None:
    with pytest.raises(DataError, match="expected s3://bucket/prefix") as error:
        Folder(uri).read("x")
    assert _one_line(error).startswith(uri)


KILLED_WRITER = """
import os, signal, sys
from hfd.io.storage import Folder
with Folder(sys.argv[1]).writing("x.parquet") as stream:
    stream.write(bytes(100_000))
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.integration
def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not folder.exists("x.parquet")
    assert folder.files() == []
    assert len(list(tmp_path.iterdir())) == 1, "what the killed writer left, under a hidden name"
    folder.write("kept", b"x")
    folder.sweep_temporaries()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_sweeping_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    Folder(str(tmp_path / "nowhere")).sweep_temporaries()
    assert not (tmp_path / "nowhere").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path) -> None:
    folder = Folder(str(small_disk))
    folder.write("before", b"x")
    with pytest.raises(DataError, match="the disk is full") as error:
        folder.write("big", bytes(2**20))
    assert _one_line(error).startswith(f"{folder.uri}/big")
    assert error.value.reason == "disk-full"
    assert [path.name for path in small_disk.iterdir()] == ["before"]
    with pytest.raises(DataError, match="the disk is full"):
        write_file(small_disk / "big", bytes(2**20))
    assert [path.name for path in small_disk.iterdir()] == ["before"]


@pytest.mark.parametrize(
    ("number", "words", "reason"),
    [
        (errno.ENOSPC, "the disk is full", "disk-full"),
        (errno.EDQUOT, "the disk is full", "disk-full"),
        (errno.EACCES, "no permission", "permission"),
        (errno.EROFS, "the file system is read-only", "io"),
    ],
)
def test_failures_on_the_way_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str, reason: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hfd.io.storage.os.fsync", fail)
    with pytest.raises(DataError, match=words) as error:
        Folder(str(tmp_path)).write("x", b"data")
    assert error.value.reason == reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_a_file_size_limit_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from hfd.io.storage import Folder\n"
        "from hfd.errors import DataError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (65536, {resource.RLIM_INFINITY}))\n"
        "try:\n"
        "    Folder(sys.argv[1]).write('x', bytes(200_000))\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "a file that is too large for this file system" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# --- S3 only -------------------------------------------------------------------------------------


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
    _one_line(error)
    with pytest.raises(DataError, match="s3://no-such-bucket/x/a: got no such bucket") as error:
        wrong.write("a", b"x")
    _one_line(error)
    with pytest.raises(DataError, match="s3://no-such-bucket/x/a: got no such file") as error:
        wrong.read("a")
    _one_line(error)
    assert s3.files() == []


def test_a_wrong_secret_is_one_line_that_names_the_variables(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.write("a", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    for attempt in (lambda: s3.read("a"), lambda: s3.write("b", b"x"), s3.files, lambda: s3.delete("a")):
        with pytest.raises(DataError, match=r"the server refuses .* AWS_SECRET_ACCESS_KEY") as error:
            attempt()
        assert "not-the-secret" not in _one_line(error)
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
