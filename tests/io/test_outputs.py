"""Outputs by the names that users give: links, devices, long names, private files; and how names are printed."""

from __future__ import annotations

import errno
import os
import pickle
import stat
from pathlib import Path

import pytest

from hfd.cli.batch import plan
from hfd.cli.convert import Existing, Source
from hfd.cli.run import run
from hfd.errors import DataError, printable
from hfd.io.failures import one_line
from hfd.io.storage import Folder, write_file
from pipelines.corpus.listing import list_corpus


def convert(source: Source, name: str) -> tuple[list[bytes], str]:
    data = source.read_bytes() if isinstance(source, Path) else source
    return [data.upper()], f"from {name}"


def compress(*sources: object, output: object = None, force: bool = False) -> None:
    batch = plan([str(one) for one in sources], None if output is None else str(output), wanted=[".png"], suffix=".hfd")
    run(batch, convert, label="x", existing=Existing(force))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo.png").write_bytes(b"photo")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("hops", [1, 3])
def test_a_link_is_written_through(photo: Path, tmp_path: Path, hops: int) -> None:
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep/target"
    target.write_bytes(b"old")
    for hop in range(hops):
        (tmp_path / f"{hop}.hfd").symlink_to("deep/target" if hop == 0 else f"{hop - 1}.hfd")
    link = tmp_path / f"{hops - 1}.hfd"
    with pytest.raises(DataError, match="exists already"):
        compress(photo, output=link)
    compress(photo, output=link, force=True)
    assert link.is_symlink() and target.read_bytes() == b"PHOTO"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["target"]


def test_a_dangling_link_makes_its_target(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    compress(photo, output=tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "new").read_bytes() == b"PHOTO"


def test_links_in_a_circle_and_to_devices_are_one_line(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "full").symlink_to("/dev/full")
    for output in (tmp_path / "circle", tmp_path / "full", "/dev/null", "/dev/no-such", "/proc/self/fd/9", "/sys/x"):
        with pytest.raises(DataError) as caught:
            compress(photo, output=output, force=True)
        assert str(caught.value).startswith(f"{output}: got ") and "--force" not in str(caught.value)
    with pytest.raises(DataError, match="devices"):
        write_file(Path("/dev/no-such"), b"x")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_by_its_names(
    photo: Path,
    tmp_path: Path,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/dev/stdout")
    compress(photo, output=output)
    assert capsysbinary.readouterr().out == b"PHOTO"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_replaced_file_keeps_its_mode(photo: Path, tmp_path: Path, mode: int) -> None:
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(mode)
    compress(photo, output=tmp_path / "out", force=True)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode
    assert (tmp_path / "out").read_bytes() == b"PHOTO"


def test_pipes_are_read(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"pipe")
    os.close(writer)
    compress(f"/dev/fd/{reader}", output=tmp_path / "out")
    os.close(reader)
    assert (tmp_path / "out").read_bytes() == b"PIPE"


def test_names_of_any_bytes_are_processed_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [b"a.png", b"caf\xe9.png", b"line\nbreak.png", b"red\x1b[31m.png", b"y" * 251 + b".png", b"z.png"]
    (tmp_path / "in").mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/" + name)).write_bytes(b"x")
    compress(tmp_path / "in", output=tmp_path / "out")
    *lines, _totals = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list((tmp_path / "out").iterdir())) == len(names)
    assert all(line.isprintable() for line in lines)
    assert any("caf\\xe9.hfd" in line for line in lines) and any("line\\nbreak" in line for line in lines)
    corpus = list_corpus(str(tmp_path / "in"), setting="data.uri")
    assert len(corpus.photos) == len(names) and len(corpus.digest) == 64
    assert all(photo.read() == b"x" and photo.key.encode() for photo in corpus.photos)


def test_a_name_that_is_too_long_ends_no_batch(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hfd.errors import BatchError

    with pytest.raises(BatchError, match="1 of 2 failed"):
        compress("x" * 256 + ".png", photo, output=tmp_path / "out")
    assert (tmp_path / "out/photo.hfd").exists()
    assert "too long" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.ELOOP])
def test_errors_of_one_file_are_no_outage(number: int) -> None:
    with pytest.raises(DataError) as caught, one_line("x"):
        raise OSError(number, os.strerror(number))
    assert not caught.value.is_outage


def test_messages_hold_no_escape_sequences_and_survive_pickling() -> None:
    error = DataError("a\x1b[2J\n\udce9ü\u202e: bad", reason="broken")
    assert str(error) == "a\\x1b[2J\\n\\xe9ü\\u202e: bad" == str(pickle.loads(pickle.dumps(error)))
    assert printable("größe 写真 🙂") == "größe 写真 🙂"


def test_a_folder_writes_the_longest_name(tmp_path: Path) -> None:
    Folder(str(tmp_path)).write("n" * 255, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]
