"""Shards: crops round-trip by row groups; incomplete or damaged shards are detected."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hfd.data.crops import Crop
from hfd.data.shards import (
    ROWS_PER_GROUP,
    RowGroup,
    iterate_rows,
    iterate_shard,
    list_row_groups,
    open_shard,
    read_row_group,
    row_groups_of,
    shard_name,
    shard_names,
)
from hfd.errors import DataError
from hfd.io.storage import Folder

SIZES = [(1, 1), (7, 3), (64, 64), (33, 129), (512, 1), (1, 512)]


def _picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _row(index: int, size: tuple[int, int] = (8, 6), *, pair: bool = False) -> Crop:
    pictures = {"x": _picture(index, *size)}
    if pair:
        pictures["x_hat"] = _picture(index + 10_000, *size)
    return Crop(id=f"{index:016x}-000", photo=f"täglich/{index} 写真.jpg", content=f"{index:064x}", pictures=pictures)


def _write(folder: Folder, name: str, rows: list[Crop], pictures: tuple[str, ...] = ("x",)) -> None:
    with open_shard(folder, name, pictures) as writer:
        for row in rows:
            writer.add(row)


def _assert_same(found: Crop, expected: Crop) -> None:
    assert (found.id, found.photo, found.content) == (expected.id, expected.photo, expected.content)
    assert found.pictures.keys() == expected.pictures.keys()
    for name, picture in expected.pictures.items():
        assert found.pictures[name].dtype == np.uint8
        np.testing.assert_array_equal(found.pictures[name], picture)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


def test_pictures_of_odd_sizes_round_trip(folder: Folder) -> None:
    rows = [_row(i, size, pair=True) for i, size in enumerate(SIZES)]
    _write(folder, "train-00000-of-00001.parquet", rows, ("x", "x_hat"))
    found = list(iterate_rows(folder, "train", ("x", "x_hat")))
    assert len(found) == len(rows)
    for one, expected in zip(found, rows, strict=True):
        _assert_same(one, expected)


def test_a_view_of_a_picture_is_written_as_its_pixels(folder: Folder) -> None:
    whole = _picture(0, 40, 60)
    view = whole[5:25:2, ::-1]
    _write(folder, "train-0.parquet", [Crop("a", "b", "c", {"x": view})])
    (found,) = iterate_rows(folder, "train")
    np.testing.assert_array_equal(found.pictures["x"], view)


@pytest.mark.parametrize("count", [0, 1, ROWS_PER_GROUP - 1, ROWS_PER_GROUP, ROWS_PER_GROUP + 1, 3 * ROWS_PER_GROUP])
def test_rows_come_in_groups_of_sixteen(folder: Folder, count: int) -> None:
    _write(folder, "train-0.parquet", [_row(i) for i in range(count)])
    groups = row_groups_of(folder, "train-0.parquet")
    full, rest = divmod(count, ROWS_PER_GROUP)
    assert [group.num_rows for group in groups] == [ROWS_PER_GROUP] * full + [rest] * (rest > 0)
    assert [group.index for group in groups] == list(range(len(groups)))
    ids = [row.id for group in groups for row in read_row_group(folder, group)]
    assert ids == [_row(i).id for i in range(count)]
    assert [row.id for row in iterate_shard(folder, "train-0.parquet")] == ids


def test_one_column_of_two_can_be_read_alone(folder: Folder) -> None:
    row = _row(3, pair=True)
    _write(folder, "train-0.parquet", [row], ("x", "x_hat"))
    (found,) = iterate_rows(folder, "train", ("x_hat",))
    assert found.pictures.keys() == {"x_hat"}
    np.testing.assert_array_equal(found.pictures["x_hat"], row.pictures["x_hat"])


def test_shards_of_a_split_are_listed_in_order(folder: Folder) -> None:
    for index in (2, 0, 1):
        _write(folder, shard_name("train", index, 3), [_row(index)])
        _write(folder, shard_name("validation", index, 3), [_row(100 + index)])
    folder.write("manifest.json", b"{}")
    folder.write("train-notes.txt", b"not a shard")
    assert shard_names(folder, "train") == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert [int(row.content, 16) for row in iterate_rows(folder, "train")] == [0, 1, 2]
    assert [int(row.content, 16) for row in iterate_rows(folder, "validation")] == [100, 101, 102]
    assert list_row_groups(folder, "train") == [RowGroup(shard_name("train", i, 3), 0, 1) for i in range(3)]


def test_names_of_many_shards_sort_by_number() -> None:
    names = [shard_name("train", i, 20_000) for i in range(0, 20_000, 777)]
    assert names == sorted(names)


def test_the_same_rows_make_the_same_bytes(folder: Folder) -> None:
    for name in ("train-0.parquet", "train-1.parquet"):
        _write(folder, name, [_row(i, pair=True) for i in range(20)], ("x", "x_hat"))
    assert folder.read("train-0.parquet") == folder.read("train-1.parquet")


def test_pixels_are_stored_without_dictionary_or_compression(folder: Folder, tmp_path: Path) -> None:
    _write(folder, "train-0.parquet", [_row(i, (64, 64)) for i in range(ROWS_PER_GROUP)])
    metadata = pq.ParquetFile(tmp_path / "train-0.parquet").metadata
    column = metadata.row_group(0).column(metadata.schema.names.index("x"))
    assert column.compression == "UNCOMPRESSED"
    assert not column.has_dictionary_page
    assert len(folder.read("train-0.parquet")) < 1.1 * ROWS_PER_GROUP * 64 * 64 * 3


def test_shards_work_on_s3(s3: Folder) -> None:
    rows = [_row(i, pair=True) for i in range(ROWS_PER_GROUP + 3)]
    _write(s3, "train-0.parquet", rows, ("x", "x_hat"))
    for found, expected in zip(iterate_rows(s3, "train", ("x", "x_hat")), rows, strict=True):
        _assert_same(found, expected)


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("written", [0, 1, ROWS_PER_GROUP + 1])
def test_a_writer_that_fails_leaves_nothing(folder: Folder, tmp_path: Path, written: int) -> None:
    with pytest.raises(RuntimeError, match="stop"), open_shard(folder, "train-0.parquet", ("x",)) as writer:
        for index in range(written):
            writer.add(_row(index))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_nothing_and_is_reported_once(folder: Folder, tmp_path: Path) -> None:
    class Full:
        closed = False

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device", None)

        def flush(self) -> None:
            pass

    @contextmanager
    def writing(_: Folder, name: str) -> Iterator[Full]:
        assert name == "train-0.parquet"
        yield Full()

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(OSError, match="No space left"),
    ):
        patch.setattr(Folder, "writing", writing)
        _write(folder, "train-0.parquet", [_row(i) for i in range(2 * ROWS_PER_GROUP)])
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_lacks_a_picture_leaves_nothing(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_shard(folder, "train-0.parquet", ("x", "x_hat")) as writer:
        writer.add(_row(0))
    assert list(tmp_path.iterdir()) == []


def _read_all(folder: Folder) -> list[Crop]:
    return list(iterate_rows(folder, "train"))


def _refusal(folder: Folder) -> None:
    with pytest.raises(DataError, match=r"not a readable shard\. Delete it and run again") as error:
        _read_all(folder)
    assert str(error.value).startswith(f"{folder.uri}/train-0.parquet: ")
    assert "\n" not in str(error.value)
    assert error.value.reason == "damaged"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_shard_is_one_line(folder: Folder, share: float) -> None:
    _write(folder, "train-0.parquet", [_row(i, (32, 32)) for i in range(ROWS_PER_GROUP + 1)])
    data = folder.read("train-0.parquet")
    folder.write("train-0.parquet", data[: int(share * len(data))])
    _refusal(folder)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all" * 10, b"PAR1" + bytes(100) + b"PAR1"])
def test_a_foreign_file_is_one_line(folder: Folder, content: bytes) -> None:
    folder.write("train-0.parquet", content)
    _refusal(folder)


def test_a_flipped_bit_in_the_pixels_is_seen(folder: Folder) -> None:
    _write(folder, "train-0.parquet", [_row(i, (64, 64)) for i in range(ROWS_PER_GROUP)])
    data = bytearray(folder.read("train-0.parquet"))
    for position in range(len(data) // 10, len(data), len(data) // 7):
        data[position] ^= 4
        folder.write("train-0.parquet", bytes(data))
        _refusal(folder)
        data[position] ^= 4
    folder.write("train-0.parquet", bytes(data))
    assert len(_read_all(folder)) == ROWS_PER_GROUP


def test_zeros_in_place_of_a_stretch_are_seen(folder: Folder) -> None:
    """As after a power failure: the right length, and a page that was not written to the disk."""
    _write(folder, "train-0.parquet", [_row(i, (64, 64)) for i in range(ROWS_PER_GROUP)])
    data = bytearray(folder.read("train-0.parquet"))
    data[8192:12288] = bytes(4096)
    folder.write("train-0.parquet", bytes(data))
    _refusal(folder)


def test_a_picture_that_the_shard_lacks_is_one_line(folder: Folder) -> None:
    _write(folder, "train-0.parquet", [_row(0)])
    with pytest.raises(DataError, match="not a readable shard"):
        list(iterate_rows(folder, "train", ("x", "x_hat")))


def test_a_shard_that_is_gone_is_named(folder: Folder) -> None:
    with pytest.raises(DataError, match=r"train-9\.parquet: got no such file"):
        row_groups_of(folder, "train-9.parquet")


def test_a_folder_without_shards_has_no_rows(folder: Folder) -> None:
    assert shard_names(folder, "train") == []
    assert list(iterate_rows(folder, "validation")) == []
