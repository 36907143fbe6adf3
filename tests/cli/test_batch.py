"""Batches: outputs of sources, and the other files if one fails."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hfd.cli.batch import Batch, plan
from hfd.cli.convert import Existing, Source
from hfd.cli.run import run
from hfd.errors import BatchError, BitstreamError, ConfigError, DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Pictures in a tree, beside what is to be left alone."""
    names = ["b.png", "a.JPG", "sub/c.png", "sub/deep/d.webp", "notes.txt", ".hidden.png", ".cache/e.png", "old.hfd"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    return tmp_path / "in"


def planned(batch: Batch, base: Path) -> dict[str, str]:
    def shown(path: Path | None) -> str:
        return "-" if path is None else os.path.relpath(path, base)

    return {shown(job.source): shown(job.output) for job in batch.jobs if job.problem is None}


def problems(batch: Batch) -> list[str]:
    return [str(job.problem) for job in batch.jobs if job.problem is not None]


def pictures(*sources: object, output: object = None) -> Batch:
    suffixes = (".png", ".jpg", ".webp")
    return plan([str(one) for one in sources], None if output is None else str(output), wanted=suffixes, suffix=".hfd")


# --- plans ---------------------------------------------------------------------------------------


def test_a_folder_is_taken_with_its_tree_in_order(tree: Path, tmp_path: Path) -> None:
    batch = pictures(tree)
    assert not batch.is_one
    assert planned(batch, tree) == {
        "a.JPG": "a.hfd",
        "b.png": "b.hfd",
        "sub/c.png": "sub/c.hfd",
        "sub/deep/d.webp": "sub/deep/d.hfd",
    }
    assert [job.source.name for job in batch.jobs if job.source] == ["a.JPG", "b.png", "c.png", "d.webp"]
    below = planned(pictures(tree, output=tmp_path / "out"), tmp_path / "out")
    assert list(below.values()) == ["a.hfd", "b.hfd", "sub/c.hfd", "sub/deep/d.hfd"]


def test_several_folders_keep_their_names_below_the_output(tree: Path, tmp_path: Path) -> None:
    batch = pictures(tree / "sub", tree / "b.png", tree, output=tmp_path / "out")
    assert [os.path.relpath(job.output, tmp_path / "out") for job in batch.jobs if job.output] == [
        "sub/c.hfd",
        "sub/deep/d.hfd",
        "b.hfd",
        "in/a.hfd",
        "in/b.hfd",
        "in/sub/c.hfd",
        "in/sub/deep/d.hfd",
    ]


def test_one_file_goes_beside_to_a_name_or_into_a_folder(tree: Path, tmp_path: Path) -> None:
    source = tree / "b.png"
    for output, expected in (
        (None, tree / "b.hfd"),
        (tmp_path / "x.bin", tmp_path / "x.bin"),
        (tree / "sub", tree / "sub/b.hfd"),
        (f"{tmp_path}/new/", tmp_path / "new/b.hfd"),
        ("-", None),
    ):
        batch = pictures(source, output=output)
        assert batch.is_one and [job.output for job in batch.jobs] == [expected]


def test_standard_input_goes_to_standard_output_or_a_file(tmp_path: Path) -> None:
    assert planned(pictures("-"), tmp_path) == {"-": "-"}
    assert planned(pictures("-", output="-"), tmp_path) == {"-": "-"}
    assert planned(pictures("-", output=tmp_path / "x.hfd"), tmp_path) == {"-": "x.hfd"}


def test_a_source_named_twice_is_done_once_and_a_clash_is_reported(tree: Path, tmp_path: Path) -> None:
    (tree / "b.jpg").write_bytes(b"another")
    batch = pictures(tree / "b.png", tree / "b.png", tree / "b.jpg", tree / "gone.png")
    assert planned(batch, tree) == {"b.png": "b.hfd"}
    assert problems(batch) == [
        f"{tree}/b.jpg: {tree}/b.hfd is also the output of {tree}/b.png. Give this one another --output",
        f"{tree}/gone.png: got no such file, expected a file or a folder",
    ]
    clash = pictures(tree / "b.png", tree / "sub/c.png", tree, output=tmp_path / "out")
    assert problems(clash) == [
        f"{tree}/b.png: {tmp_path}/out/in/b.hfd is also the output of {tree}/b.jpg. Give this one another --output"
    ]


def test_special_files_are_reported() -> None:
    assert problems(pictures("/dev/null")) == ["/dev/null: got a special file, expected a file or a folder"]


def test_plans_that_cannot_be_meant(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"^-: got other inputs beside standard input"):
        pictures("-", tree)
    with pytest.raises(ConfigError, match=r"^--output: got - for several files, expected a folder"):
        pictures(tree, output="-")
    with pytest.raises(ConfigError, match="got a file for several outputs, expected a folder"):
        pictures(tree, output=tmp_path / "file")
    with pytest.raises(ConfigError, match="got a file's name for several outputs, expected a folder's"):
        pictures(tree / "b.png", tree / "sub/c.png", output=tmp_path / "out.hfd")
    with pytest.raises(ConfigError, match="got a folder, expected the name of a file for the output of standard"):
        pictures("-", output=tmp_path)
    with pytest.raises(DataError, match=r"empty: got a folder without such files, expected \.png, \.jpg, \.\.\. in"):
        pictures(tmp_path / "empty")
    assert len(problems(pictures(tmp_path / "empty", tree))) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anywhere")
def test_a_folder_that_cannot_be_read_is_reported(tree: Path) -> None:
    (tree / "sub").chmod(0)
    try:
        assert "sub: Permission denied. Check its owner and mode" in problems(pictures(tree))[0]
    finally:
        (tree / "sub").chmod(0o755)


# --- runs ----------------------------------------------------------------------------------------


def shout(source: Source, name: str) -> tuple[list[bytes], str]:
    """A conversion that fails on what begins with "b"."""
    data = source.read_bytes() if isinstance(source, Path) else source
    if data.startswith(b"b"):
        raise BitstreamError(f"{name}: got nonsense, expected sense. Leave it out")
    return [data[:1].upper(), data[1:].upper()], f"{len(data)} bytes"


def test_a_failure_leaves_the_others_done_and_is_counted(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BatchError, match=r"^1 of 4 failed$") as caught:
        run(pictures(tree), shout, label="x", existing=Existing())
    assert caught.value.exit_code == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{tree}/a.hfd: 5 bytes",
        f"{tree}/sub/c.hfd: 9 bytes",
        f"{tree}/sub/deep/d.hfd: 15 bytes",
        "3 of 4 files written, 29 bytes in, 29 bytes out, ratio 1.000, 1 failed",
    ]
    assert said.err.splitlines() == [
        f"hfd: {tree}/b.png: got nonsense, expected sense. Leave it out",
        f"hfd: {tree}: skipped 3: 2 hidden files and folders (.cache, .hidden.png), 1 other file (.txt)",
    ]
    assert (tree / "sub/c.hfd").read_bytes() == b"SUB/C.PNG"
    assert not (tree / "b.hfd").exists()


def test_a_single_file_fails_with_its_own_error(tree: Path) -> None:
    with pytest.raises(BitstreamError, match="got nonsense"):
        run(pictures(tree / "b.png"), shout, label="x", existing=Existing())


def test_existing_outputs_are_refused_skipped_or_replaced(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "a.hfd").write_bytes(b"precious")
    (tree / "b.png").unlink()
    with pytest.raises(BatchError, match=r"^1 of 3 failed$"):
        run(pictures(tree), shout, label="x", existing=Existing())
    assert "a.hfd: exists already. Give another --output, or --force to replace it" in capsys.readouterr().err
    (tree / "sub/c.hfd").write_bytes(b"older")
    run(pictures(tree), shout, label="x", existing=Existing(skip=True))
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines] == ["exists already, skipped"] * 3
    assert total == "0 of 3 files written, 3 skipped"
    assert ((tree / "a.hfd").read_bytes(), (tree / "sub/c.hfd").read_bytes()) == (b"precious", b"older")
    run(pictures(tree), shout, label="x", existing=Existing(force=True))
    assert ((tree / "a.hfd").read_bytes(), (tree / "sub/c.hfd").read_bytes()) == (b"A.JPG", b"SUB/C.PNG")


def test_outputs_that_would_not_be_smaller_are_counted_and_not_written(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def halve(source: Source, name: str) -> tuple[list[bytes] | None, str]:
        if name.endswith("c.png"):
            return None, "not smaller"
        assert isinstance(source, Path)
        data = source.read_bytes()
        return [data[: len(data) // 2]], "half"

    (tree / "b.hfd").write_bytes(b"older")
    run(pictures(tree), halve, label="x", existing=Existing(skip=True))
    assert capsys.readouterr().out.splitlines() == [
        f"{tree}/a.hfd: half",
        f"{tree}/b.hfd: exists already, skipped",
        f"{tree}/sub/c.png: not smaller",
        f"{tree}/sub/deep/d.hfd: half",
        "2 of 4 files written, 20 bytes in, 9 bytes out, ratio 0.450, 1 skipped, 1 not smaller",
    ]
    assert not (tree / "sub/c.hfd").exists()
    run(pictures(tree / "sub/c.png"), halve, label="x", existing=Existing())
    assert capsys.readouterr().out == f"{tree}/sub/c.png: not smaller\n"


def test_outputs_are_as_old_as_their_sources(tree: Path) -> None:
    os.utime(tree / "b.png", ns=(10**18, 10**18 + 12_345_678_000))
    (tree / "b.png").write_bytes(b"content")
    os.utime(tree / "b.png", ns=(10**18, 10**18 + 12_345_678_000))
    run(pictures(tree), shout, label="x", existing=Existing())
    assert (tree / "b.hfd").stat().st_mtime_ns == 10**18 + 12_345_678_000


def test_a_full_disk_and_a_mistake_of_usage_stop_all(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(_source: Source, _name: str) -> tuple[list[bytes], str]:
        raise ConfigError("sampler: got x, expected y")

    with pytest.raises(ConfigError):
        run(pictures(tree), mistaken, label="x", existing=Existing())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hfd.io.outputs.os.fsync", full)
    with pytest.raises(DataError, match="the disk is full"):
        run(pictures(tree / "sub"), shout, label="x", existing=Existing())
    assert sorted(path.name for path in (tree / "sub").rglob("*") if path.is_file()) == ["c.png", "d.webp"]


def test_a_read_only_file_system_is_one_line(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(_: int) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("hfd.io.outputs.os.fsync", locked)
    with pytest.raises(DataError, match=r"c\.hfd: the file system is read-only\. Give another place"):
        run(pictures(tree / "sub/c.png"), shout, label="x", existing=Existing())


def test_an_output_that_is_a_device_is_never_replaced(tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out")
    with pytest.raises(DataError, match=r"got a special file. Give another --output, or - for standard"):
        run(pictures(tree / "sub/c.png", output=tmp_path / "out"), shout, label="x", existing=Existing(force=True))


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_bytes_neither_go_to_a_terminal_nor_come_from_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", Screen())
        with pytest.raises(ConfigError, match=r"got a terminal, expected a file or a pipe. Give --output FILE"):
            run(pictures(tree / "sub/c.png", output="-"), shout, label="x", existing=Existing())
    monkeypatch.setattr("sys.stdin", Screen())
    with pytest.raises(ConfigError, match="standard input: got a terminal, expected a file or a pipe"):
        run(pictures("-", output=tree / "x.hfd"), shout, label="x", existing=Existing())
    assert not (tree / "x.hfd").exists()


def test_bytes_to_standard_output_come_alone(tree: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    run(pictures(tree / "sub/c.png", output="-"), shout, label="x", existing=Existing())
    assert capsysbinary.readouterr() == (b"SUB/C.PNG", b"")


def test_bytes_that_fail_on_the_way_leave_nothing(tree: Path) -> None:
    def broken(_source: Source, name: str) -> tuple[Iterator[bytes], str]:
        def pieces() -> Iterator[bytes]:
            yield b"one"
            raise DataError(f"{name}: no more")

        return pieces(), "never said"

    before = sorted(tree.rglob("*"))
    with pytest.raises(BatchError, match=r"^4 of 4 failed$"):
        run(pictures(tree), broken, label="x", existing=Existing())
    assert sorted(tree.rglob("*")) == before
