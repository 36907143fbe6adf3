"""Pictures of Parquet files: bytes and structs, row groups, columns, damage."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus.packs.members import members
from pipelines.corpus.packs.pack import Member, MemberSettings, Pack
from pipelines.corpus.packs.tables import read_table
from tests.support.packs import parquet_of

PACK = Pack("x.parquet", Folder("nowhere"), "x.parquet", 0, "stamp")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BYTES = [b"one", b"two", None, b"four" * 9]


def read(data: bytes, **settings: Any) -> list[Member]:
    return list(read_table(io.BytesIO(data), PACK, MemberSettings(**settings)))


def contents(found: list[Member]) -> list[object]:
    return [member.data if isinstance(member.data, bytes) else member.data.reason for member in found]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_column_of_bytes_has_keys_by_rows(kind: pa.DataType) -> None:
    found = read(parquet_of({"text": ["a", "b", "c", "d"], "data": pa.array(BYTES, kind)}), max_bytes=30)
    assert contents(found) == [b"one", b"two", "empty", "too-large"]
    assert [member.key for member in found] == [f"x.parquet/0000000{row}" for row in range(4)]
    assert [member.size for member in found] == [3, 3, 0, 36]


def test_structs_of_datasets_have_keys_by_paths() -> None:
    rows = [
        {"bytes": b"one", "path": "d/a.jpg"}, {"bytes": b"two", "path": "d/a.jpg"}, {"bytes": b"3", "path": None},
        {"bytes": None, "path": "gone.jpg"}, None,
    ]  # fmt: skip
    found = read(parquet_of({"image": pa.array(rows, STRUCT), "thumb": [b"x"] * 5}))
    assert contents(found) == [b"one", b"two", b"3", "empty", "empty"]
    names = ["d/a.jpg", "d/a.jpg (2)", "00000002", "gone.jpg", "00000004"]
    assert [member.key for member in found] == [f"x.parquet/{name}" for name in names]


@pytest.mark.parametrize(
    ("columns", "settings", "words"),
    [
        ({"a": [1], "b": ["t"]}, {}, r"got no columns of pictures.*candidates: none; all columns: a, b\)"),
        (
            {"a": [b"1"], "b": [b"2"], "c": [1]},
            {},
            r"got 2 columns of pictures.*candidates: a, b\). Set data.image_column",
        ),
        ({"a": [b"1"], "b": ["t"]}, {"image_column": "b"}, r"got no column b of pictures.*candidates: a\)"),
        (
            {"a": [b"1"], "b": ["t"]},
            {"metadata": ("z",)},
            r"got no column z, which data.metadata.*expected one of a, b",
        ),
    ],
)
def test_a_missing_column_names_the_candidates(columns: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        read(parquet_of(columns), **settings)
    assert error.value.reason == "no-column" and "\n" not in str(error.value)
    assert contents(read(parquet_of({"a": [b"1"], "image": [b"2"]}))) == [b"2"]
    assert contents(read(parquet_of({"a": [b"1"], "image": [b"2"]}), image_column="a")) == [b"1"]


def test_fields_are_columns() -> None:
    data = parquet_of({"image": [b"1", b"2", b"3"], "caption": ["x", None, "z"], "width": [1, 2, 3]})
    found = read(data, metadata=("caption",), where=(("width", ">", 1),))
    assert [dict(member.fields) for member in found] == [
        {"caption": "x", "width": 1}, {"width": 2}, {"caption": "z", "width": 3},
    ]  # fmt: skip


def test_row_groups_are_read_one_after_another() -> None:
    data = parquet_of({"image": [bytes([row]) * 1000 for row in range(20)]}, rows_per_group=3)
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 7
    assert contents(read(data)) == [bytes([row]) * 1000 for row in range(20)]


def test_damage_gives_a_fault_of_the_pack(s3: Folder, s3_client: Any) -> None:
    """On S3: a footer at the end, row groups before it."""
    data = parquet_of({"image": [bytes([row]) * 90_000 for row in range(100)]}, rows_per_group=10)
    bucket, _, prefix = s3.uri.removeprefix("s3://").partition("/")
    for body, count, reason in ((data, 100, None), (data[:-1000], 0, "damaged"), (b"no table", 0, "damaged")):
        tag = s3_client.put_object(Bucket=bucket, Key=f"{prefix}/x.parquet", Body=body)["ETag"]
        found = list(members(Pack("x.parquet", s3, "x.parquet", len(body), tag.strip('"')), MemberSettings()))
        good = [member for member in found if isinstance(member.data, bytes)]
        assert [member.data for member in good] == [bytes([row]) * 90_000 for row in range(count)]
        faults = [(member.key, member.data.reason) for member in found if isinstance(member.data, DataError)]
        assert faults == ([] if reason is None else [("x.parquet", reason)])
