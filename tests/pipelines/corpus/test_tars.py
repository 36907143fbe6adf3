"""Pictures of tars: any layout that tarfile writes, cut at any place, forged sizes, memory."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.packs.files import RANGE_BYTES
from pipelines.corpus.packs.members import members
from pipelines.corpus.packs.pack import Member, MemberSettings, Pack
from pipelines.corpus.packs.tars import read_tar
from tests.support.packs import BLOCK, tar_of

PACK = Pack("x.tar", Folder("nowhere"), "x.tar", 0, "stamp")
NAMES = st.text("abc/ü.0", min_size=1, max_size=120).filter(
    lambda name: not any(part in ("", ".", "..") for part in name.split("/"))
)
MEMBERS = st.lists(st.tuples(NAMES.map("d/{}.jpg".format), st.binary(max_size=2000)), min_size=1, max_size=6)
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


def read(data: bytes, settings: MemberSettings | None = None) -> tuple[list[Member], DataError | None]:
    """Return the members, and the error at the end."""
    found: list[Member] = []
    try:
        found.extend(read_tar(io.BytesIO(data), PACK, settings or MemberSettings()))
    except DataError as error:
        return found, error
    return found, None


def visible(contents: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(name, data) for name, data in contents if not any(part.startswith(".") for part in name.split("/"))]


@given(contents=MEMBERS, kind=FORMATS)
def test_members_are_read_in_order_with_nested_names(contents: list[tuple[str, bytes]], kind: int) -> None:
    found, error = read(tar_of(contents, kind))
    shown = visible(contents)
    assert [member.read() for member in found] == [data for _, data in shown]
    assert [member.size for member in found] == [len(data) for _, data in shown]
    keys = [member.key for member in found]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(f"x.tar/{name}") for key, (name, _) in zip(keys, shown, strict=True))
    assert (error is None) == bool(shown)


@pytest.mark.parametrize("name", ["../a.jpg", "d/0/../0.jpg", "/a.jpg"])
def test_a_name_that_leads_elsewhere_is_only_a_name(name: str) -> None:
    """Nothing is unpacked: the name is part of the key and of nothing else."""
    found, error = read(tar_of([(name, b"bytes")], tarfile.GNU_FORMAT))
    assert [(member.key, member.read()) for member in found] == [(f"x.tar/{name}", b"bytes")] and error is None


@given(contents=MEMBERS, kind=FORMATS, data=st.data())
def test_a_cut_tar_yields_the_members_before_the_cut_and_says_so(
    contents: list[tuple[str, bytes]], kind: int, data: st.DataObject
) -> None:
    whole = tar_of(contents, kind)
    # The end mark is two blocks of zeros, padded to twenty blocks.
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.getmembers()
        end = archive.offset
    cut = data.draw(st.integers(1, end))
    found, error = read(whole[:cut])
    assert error is not None and error.reason in ("cut", "not-a-tar") and "\n" not in str(error)
    good = [member.data for member in found if isinstance(member.data, bytes)]
    assert good == [content for _, content in visible(contents)][: len(good)]
    assert sum(isinstance(member.data, DataError) for member in found) <= 1


@given(contents=MEMBERS, data=st.data())
def test_a_damaged_byte_never_ends_in_another_error(contents: list[tuple[str, bytes]], data: st.DataObject) -> None:
    whole = bytearray(tar_of(contents))
    for _ in range(3):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(whole))


def test_other_files_links_and_hidden_names_are_left_out() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a.jpg", "a.json", "__MACOSX/._a.jpg", ".b.jpg", "./c.PNG", "c.txt"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("d.jpg")
            info.type, info.linkname = kind, "a.jpg"
            archive.addfile(info)
    selection = MemberSettings().selection()
    found = list(read_tar(io.BytesIO(buffer.getvalue()), PACK, MemberSettings(), selection))
    assert [member.key for member in found] == ["x.tar/a.jpg", "x.tar/c.PNG"]
    assert {kind: record["count"] for kind, record in selection.skipped.to_record().items()} == {
        "system files": 1,
        "hidden files and folders": 1,
        "further names of listed files and folders": 2,
        "pipes, sockets and devices": 1,
    }


def test_names_with_the_separators_of_windows_are_those_of_folders() -> None:
    names = [
        "p.v1\\a\\1.jpg",
        "p.v1\\a\\1.json",
        "p.v1\\a\\2.jpg",
        "p.v1\\@eaDir\\2.jpg",
        "p.v1\\.x\\3.jpg",
        "a\\b/4.jpg",
    ]
    members = [(name, b'{"licence": "cc0"}' if name.endswith("json") else b"x") for name in names]
    found, error = read(tar_of(members), MemberSettings(metadata=("licence",)))
    assert [member.key for member in found] == ["x.tar/p.v1/a/1.jpg", "x.tar/p.v1/a/2.jpg", "x.tar/a\\b/4.jpg"]
    assert [dict(member.fields) for member in found] == [{"licence": "cc0"}, {}, {}] and error is None


def test_ignored_members_are_counted_and_a_tar_of_them_alone_is_no_fault() -> None:
    settings = MemberSettings(ignore=("*_thumb.jpg", "raw"))
    selection = settings.selection()
    data = tar_of([("d/a_thumb.jpg", b"1"), ("raw/a.jpg", b"2"), ("raw/a.json", b"{}")])
    assert not list(read_tar(io.BytesIO(data), PACK, settings, selection))
    assert str(selection.skipped) == "skipped 2: 2 ignored files (d/a_thumb.jpg, raw/a.jpg)"


def test_equal_names_of_one_tar_have_keys_of_their_own() -> None:
    found, _ = read(tar_of([("a.jpg", b"1"), ("a.jpg", b"2"), ("a.jpg (2)", b"no"), ("a.jpg", b"3")]))
    assert [member.key for member in found] == ["x.tar/a.jpg", "x.tar/a.jpg (2)", "x.tar/a.jpg (3)"]


def test_a_member_beyond_max_bytes_is_rejected_and_the_others_are_read() -> None:
    found, error = read(tar_of([("a.jpg", b"1"), ("big.jpg", bytes(3000)), ("c.jpg", b"3")]), MemberSettings(2000))
    assert error is None and [member.data for member in found if isinstance(member.data, bytes)] == [b"1", b"3"]
    assert isinstance(found[1].data, DataError) and found[1].data.reason == "too-large"
    assert str(found[1].data) == (
        "x.tar/big.jpg: got 3000 bytes, expected at most 2000. Leave it out or raise prepare.max_bytes"
    )


def test_a_stated_size_beyond_the_file_takes_no_memory() -> None:
    forged = tarfile.TarInfo("a.jpg")
    forged.size = 8 << 30
    found, error = read(forged.tobuf(tarfile.GNU_FORMAT) + b"x" * 600)
    assert [member.data.reason for member in found if isinstance(member.data, DataError)] == ["too-large"]
    assert error is not None and error.reason == "cut"
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 6 << 30
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, error = read(tar_of([("a.jpg", b"1")])[: -20 * BLOCK + 2 * BLOCK] + header.tobuf(tarfile.GNU_FORMAT))
    assert error is not None and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (64 << 10)


@pytest.mark.parametrize(
    ("head", "reason", "words"),
    [
        (b"\x1f\x8b\x08", "compressed", "gzip"),
        (b"BZh9", "compressed", "bzip2"),
        (b"\xfd7zXZ\0", "compressed", "xz"),
        (b"\x28\xb5\x2f\xfd", "compressed", "Zstandard"),
        (b"<!DOCTYPE html>", "not-a-tar", "not a tar"),
        (b"", "not-a-tar", "not a tar"),
    ],
)
def test_a_file_that_is_no_plain_tar_is_refused_by_name(head: bytes, reason: str, words: str) -> None:
    found, error = read(head and head + bytes(2000))
    assert not found and error is not None and error.reason == reason and words in str(error)


def test_a_tar_without_pictures_says_so() -> None:
    found, error = read(tar_of([("a.txt", b"1")]))
    assert not found and error is not None and error.reason == "empty"


def store(s3: Folder, s3_client: object, data: bytes) -> Pack:
    bucket, _, prefix = s3.uri.removeprefix("s3://").partition("/")
    tag = s3_client.put_object(Bucket=bucket, Key=f"{prefix}/x.tar", Body=data)["ETag"]  # type: ignore[attr-defined]
    return Pack("x.tar", s3, "x.tar", len(data), tag.strip('"'))


def test_a_tar_on_s3_is_read_by_ranges_of_its_version(s3: Folder, s3_client: object) -> None:
    contents = [(f"d/{number}.jpg", bytes([number]) * 900_000) for number in range(11)]
    pack = store(s3, s3_client, tar_of(contents))
    assert pack.size > 2 * RANGE_BYTES
    assert [member.read() for member in members(pack, MemberSettings())] == [data for _, data in contents]
    found = members(pack, MemberSettings())
    assert next(found).read() == contents[0][1]
    store(s3, s3_client, tar_of(contents[::-1]))
    rest = list(found)
    assert rest[-1].key == "x.tar" and isinstance(rest[-1].data, DataError) and rest[-1].data.reason == "changed"
    assert all(member.data in [data for _, data in contents[1:]] for member in rest[:-1])


def test_a_local_tar_that_changed_or_went_is_a_fault_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of([("a.jpg", b"1")]))
    pack = Pack("x.tar", Folder(str(tmp_path)), "x.tar", path.stat().st_size, "12")
    (fault,) = members(pack, MemberSettings())
    assert fault.key == "x.tar" and isinstance(fault.data, DataError) and fault.data.reason == "changed"
    path.unlink()
    (fault,) = members(pack, MemberSettings())
    assert isinstance(fault.data, DataError) and fault.data.reason == "missing"


@pytest.mark.integration
def test_memory_does_not_grow_with_the_tar(tmp_path: Path) -> None:
    """The peak of a process that reads a tar of 16 and one of 160 MiB."""
    code = (
        "import re, sys; from hfd.io.storage import Folder; from pathlib import Path\n"
        "from pipelines.corpus.packs.members import members; from pipelines.corpus.packs.pack import *\n"
        "path = Path(sys.argv[1]); info = path.stat()\n"
        "pack = Pack('x', Folder(str(path.parent)), path.name, info.st_size, str(info.st_mtime_ns))\n"
        "print(sum(len(member.read()) for member in members(pack, MemberSettings())), "
        "re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    peaks = []
    for count in (160, 1600):
        path = tmp_path / f"{count}.tar"
        path.write_bytes(tar_of((f"{number}.jpg", bytes(100 << 10)) for number in range(count)))
        ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        total, peak = map(int, ended.stdout.split())
        assert total == count * (100 << 10)
        peaks.append(peak)
    assert peaks[1] < peaks[0] + (8 << 10)
