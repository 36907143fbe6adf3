"""Local folders: listing, killed writers, full disks and other failures as one line."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder, write_file
from tests.support.errors import one_line
from tests.support.processes import KILLED_WRITER


def test_a_missing_local_folder_is_an_error_to_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got no such folder") as error:
        Folder(str(tmp_path / "nowhere")).files()
    assert error.value.reason == "missing"


def test_listing_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="got a file, expected a folder"):
        Folder(str(tmp_path / "file")).files()


def test_writing_below_a_file_isone_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError) as error:
        Folder(str(tmp_path / "file")).write("x", b"y")
    assert "file" in one_line(error)
    with pytest.raises(DataError) as error:
        write_file(tmp_path / "file" / "x", b"y")
    one_line(error)


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
def test_an_unusable_uri_isone_line(uri: str) -> None:
    with pytest.raises(DataError, match="expected s3://bucket/prefix") as error:
        Folder(uri).read("x")
    assert one_line(error).startswith(uri)


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
    assert one_line(error).startswith(f"{folder.uri}/big")
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

    monkeypatch.setattr("hfd.io.outputs.os.fsync", fail)
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
