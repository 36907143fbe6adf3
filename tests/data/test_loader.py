"""Training batches: order and cut of samples, and readers that fail or stop early."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfd.data import loader as loader_module
from hfd.data.crops import Crop
from hfd.data.loader import CropLoader, SampleOrder, sub_crop
from hfd.data.read_ahead import RowIndex
from hfd.data.shards import RowGroup, open_shard, shard_name
from hfd.errors import DataError
from hfd.io.storage import Folder

GROUPS = st.lists(st.integers(1, 20), min_size=1, max_size=40)
SEEDS = st.integers(0, 2**63 - 1)

SIDE = 24
CROP = 16
COUNTS = (37, 5)
"""Rows of the two shards of the training split: neither is a whole number of row groups."""


def _coordinates(index: int, *, side: int = SIDE) -> np.ndarray:
    """A picture whose pixels encode their position: red is the row, green the column, blue the picture."""
    rows, columns = np.mgrid[0:side, 0:side]
    return np.stack([rows, columns, np.full_like(rows, index)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(str(tmp_path_factory.mktemp("shards")))
    index = 0
    for number, count in enumerate(COUNTS):
        with open_shard(folder, shard_name("train", number, len(COUNTS)), ("x", "x_hat")) as writer:
            for _ in range(count):
                x = _coordinates(index)
                writer.add(Crop(f"{index}", "photo", "content", {"x": x, "x_hat": 255 - x}))
                index += 1
    return folder


def _loader(folder: Folder, *, batch_size: int = 8, seed: int = 3, rank: int = 0, world: int = 1) -> CropLoader:
    return CropLoader(
        folder,
        "train",
        pictures=("x", "x_hat"),
        crop_px=CROP,
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world=world,
    )


def _take(loader: CropLoader, count: int, start: int = 0) -> np.ndarray:
    batches = loader.batches(start)
    taken = list(islice(batches, count))
    batches.close()
    return np.concatenate(taken)


# --- the order of samples ------------------------------------------------------------------------


@given(GROUPS, SEEDS, st.integers(0, 3), st.integers(1, 20))
def test_every_epoch_is_a_permutation(groups: list[int], seed: int, epoch: int, window: int) -> None:
    order = SampleOrder(groups, seed=seed, window_groups=window)
    num_rows = sum(groups)
    assert order.num_rows == num_rows
    seen = [order.row_of(epoch * num_rows + i) for i in range(num_rows)]
    assert sorted((place.group, place.row) for place in seen) == [
        (group, row) for group, count in enumerate(groups) for row in range(count)
    ]


@given(GROUPS, SEEDS, st.lists(st.integers(0, 2000), min_size=1, max_size=30))
def test_a_place_depends_on_nothing_but_seed_and_number(groups: list[int], seed: int, samples: list[int]) -> None:
    walked = SampleOrder(groups, seed=seed)
    in_turn = {sample: walked.row_of(sample) for sample in range(max(samples) + 1)}
    asked_at_random = SampleOrder(groups, seed=seed)
    assert [asked_at_random.row_of(sample) for sample in samples] == [in_turn[sample] for sample in samples]


@given(GROUPS, SEEDS, st.integers(1, 6))
def test_rows_mix_within_a_window_of_groups_only(groups: list[int], seed: int, window: int) -> None:
    """A reader holds a window's groups and no more: a group is done before the next window begins."""
    order = SampleOrder(groups, seed=seed, window_groups=window)
    places = [order.row_of(i).group for i in range(order.num_rows)]
    last_seen = {group: max(i for i, g in enumerate(places) if g == group) for group in set(places)}
    first_seen = {group: places.index(group) for group in set(places)}
    for moment in range(len(places)):
        assert sum(first_seen[group] <= moment <= last_seen[group] for group in first_seen) <= window


def test_epochs_and_seeds_differ_in_order() -> None:
    order = SampleOrder([16] * 8, seed=1)
    epochs = [[order.row_of(epoch * 128 + i) for i in range(128)] for epoch in range(3)]
    other = SampleOrder([16] * 8, seed=2)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert [other.row_of(i) for i in range(128)] != epochs[0]


@pytest.mark.parametrize("seed", [0, 2**53, 2**62, 2**63 - 2])
def test_neighbouring_seeds_differ_however_large(seed: int) -> None:
    first, second = (SampleOrder([50], seed=value) for value in (seed, seed + 1))
    assert [first.row_of(i) for i in range(50)] != [second.row_of(i) for i in range(50)]


def test_a_golden_order() -> None:
    """Resuming a run on another release must not show it other samples."""
    order = SampleOrder([3, 2, 4], seed=7, window_groups=2)
    golden = [(2, 2), (1, 1), (2, 1), (2, 0), (1, 0), (2, 3), (0, 0), (0, 1), (0, 2)]
    assert [order.row_of(i) for i in range(9)] == [RowIndex(*one) for one in golden]


# --- sub-crops -----------------------------------------------------------------------------------


@given(st.integers(16, 40), st.integers(16, 40), st.integers(1, 16), SEEDS, st.integers(0, 2**40))
def test_a_sub_crop_is_inside_and_aligned(height: int, width: int, crop_px: int, seed: int, sample: int) -> None:
    x = _coordinates(0, side=40)[:height, :width]
    one, other = sub_crop([x, 255 - x], crop_px, seed=seed, sample=sample)
    assert one.shape == other.shape == (crop_px, crop_px, 3)
    np.testing.assert_array_equal(one, 255 - other)
    columns = one[0, :, 1].astype(int)
    flipped = crop_px > 1 and columns[0] > columns[-1]
    upright = one[:, ::-1] if flipped else one
    top, left = int(upright[0, 0, 0]), int(upright[0, 0, 1])
    np.testing.assert_array_equal(upright, x[top : top + crop_px, left : left + crop_px])


def test_a_sub_crop_as_large_as_the_picture_is_the_picture() -> None:
    x = _coordinates(0)
    crops = [sub_crop([x], SIDE, seed=0, sample=i)[0] for i in range(20)]
    assert {crop.tobytes() for crop in crops} == {x.tobytes(), x[:, ::-1].tobytes()}


@pytest.mark.parametrize("first", [0, 10_000, 2**40])
@pytest.mark.parametrize("seed", [0, 2**60])
def test_every_sample_is_cut_in_its_own_way(first: int, seed: int) -> None:
    """Over neighbouring samples every position comes about equally often, and both flips."""
    x = _coordinates(0)
    corners = np.zeros((9, 9, 2), dtype=int)
    for sample in range(first, first + 4000):
        (crop,) = sub_crop([x], CROP, seed=seed, sample=sample)
        flip = int(crop[0, 0, 1] > crop[0, -1, 1])
        corners[crop[0, 0, 0], min(crop[0, 0, 1], crop[0, -1, 1]), flip] += 1
    expected = 4000 / corners.size
    chi_square = float(((corners - expected) ** 2 / expected).sum())
    assert chi_square < 225, "the 99.9 % quantile of 161 degrees of freedom is 222"


def test_neighbouring_seeds_cut_differently() -> None:
    x = _coordinates(0)
    cuts = [
        [sub_crop([x], CROP, seed=seed, sample=sample)[0].tobytes() for sample in range(20)]
        for seed in (2**62, 2**62 + 1)
    ]
    assert cuts[0] != cuts[1]


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_is_uint8_of_aligned_crops(shards: Folder) -> None:
    batch = _take(_loader(shards), 1)
    assert batch.shape == (8, 2, CROP, CROP, 3)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[:, 0], 255 - batch[:, 1])
    assert (batch[:, 0, ..., 2] == batch[:, 0, :1, :1, 2]).all(), "each crop from one picture"


def test_an_epoch_shows_every_crop_once(shards: Folder) -> None:
    loader = _loader(shards, batch_size=6)
    assert loader.num_crops == sum(COUNTS) == 42
    for epoch in range(2):
        batch = _take(loader, 7, start=42 * epoch)
        assert sorted(batch[:, 0, 0, 0, 2].tolist()) == list(range(42))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 200), st.sampled_from([1, 2, 3, 8, 50]))
def test_samples_are_the_same_however_they_are_batched_and_resumed(shards: Folder, start: int, batch_size: int) -> None:
    reference = _take(_loader(shards, batch_size=25), 12)
    num_batches = min(3, (300 - start) // batch_size)
    resumed = _take(_loader(shards, batch_size=batch_size), num_batches, start=start)
    np.testing.assert_array_equal(resumed, reference[start : start + num_batches * batch_size])


@pytest.mark.parametrize("world", [2, 4, 8])
def test_ranks_together_get_the_samples_of_one_worker(shards: Folder, world: int) -> None:
    alone = _take(_loader(shards), 9, start=5)
    together = np.empty_like(alone)
    for rank in range(world):
        share = _take(_loader(shards, rank=rank, world=world), 9, start=5)
        together[rank::world] = share
    np.testing.assert_array_equal(together, alone)


def test_more_row_groups_than_are_held_at_once(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for number in range(40):
        with open_shard(folder, shard_name("train", number, 40), ("x", "x_hat")) as writer:
            x = _coordinates(number)
            writer.add(Crop(f"{number}", "photo", "content", {"x": x, "x_hat": 255 - x}))
    batch = _take(_loader(folder, batch_size=40), 2)
    for epoch in (batch[:40], batch[40:]):
        assert sorted(epoch[:, 0, 0, 0, 2].tolist()) == list(range(40))


def test_a_batch_belongs_to_its_taker(shards: Folder) -> None:
    batches = _loader(shards).batches()
    first = next(batches)
    first[:] = 0
    again = next(_loader(shards).batches())
    assert again.any()
    batches.close()


# --- what goes wrong -----------------------------------------------------------------------------


def test_an_empty_split_is_one_line(shards: Folder) -> None:
    with pytest.raises(DataError, match="got no validation crops, expected some") as error:
        CropLoader(shards, "validation", pictures=("x",), crop_px=CROP, batch_size=1, seed=0)
    assert error.value.reason == "empty"


def test_a_batch_that_the_workers_cannot_share(shards: Folder) -> None:
    with pytest.raises(DataError, match="batch_size: got 8, expected at least one sample for each of 9 workers"):
        _loader(shards, world=9)


@pytest.mark.parametrize("world", [3, 5])
def test_uneven_shares_hold_every_sample_once(shards: Folder, world: int) -> None:
    whole = _take(_loader(shards), 3)
    for rank in range(world):
        share = _take(_loader(shards, rank=rank, world=world), 3)
        expected = [whole[8 * batch + index] for batch in range(3) for index in range(rank, 8, world)]
        assert np.array_equal(share, np.stack(expected))


def test_workers_that_come_and_go_see_every_sample_once(shards: Folder) -> None:
    """Two workers for two batches, one for one, three for two: each starts at the position where the last stopped."""
    whole, position = _take(_loader(shards), 5), 0
    for world, batches in ((2, 2), (1, 1), (3, 2)):
        shares = [_take(_loader(shards, rank=rank, world=world), batches, start=position) for rank in range(world)]
        for rank, share in enumerate(shares):
            samples = [position + 8 * batch + index for batch in range(batches) for index in range(rank, 8, world)]
            assert np.array_equal(share, whole[samples])
        position += 8 * batches


def test_from_a_bucket_as_from_a_folder_and_ahead_of_need(
    shards: Folder, s3: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in shards.files():
        s3.write(entry.key, shards.read(entry.key))
    asked: list[int] = []
    enough = threading.Event()
    read = loader_module.read_row_group

    def spy(folder: Folder, group: RowGroup, columns: Sequence[str]) -> list[Crop]:
        asked.append(group.index)
        if len(asked) == 4:
            enough.set()
        return read(folder, group, columns)

    monkeypatch.setattr(loader_module, "read_row_group", spy)
    batches = _loader(s3, batch_size=1).batches()
    first = next(batches)
    # One sample was wanted, of one group: all four of this window are on their way.
    assert enough.wait(60.0)
    batches.close()
    assert np.array_equal(first, _take(_loader(shards, batch_size=1), 1))
    monkeypatch.undo()


@pytest.mark.parametrize("world", [1, 3])
def test_batches_from_a_bucket_are_those_from_a_folder(shards: Folder, s3: Folder, world: int) -> None:
    for entry in shards.files():
        s3.write(entry.key, shards.read(entry.key))
    for rank in range(world):
        found, expected = (_take(_loader(folder, rank=rank, world=world), 12, start=17) for folder in (s3, shards))
        assert np.array_equal(found, expected)


def _loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hfd-loader"]


def test_a_damaged_shard_reaches_the_consumer(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    name = shard_name("train", 0, 1)
    with open_shard(folder, name, ("x", "x_hat")) as writer:
        for index in range(20):
            writer.add(Crop(f"{index}", "p", "c", {"x": _coordinates(index), "x_hat": _coordinates(index)}))
    loader = _loader(folder)
    data = bytearray(folder.read(name))
    data[len(data) // 2] ^= 1
    folder.write(name, bytes(data))
    with pytest.raises(DataError, match="not a readable shard"):
        _take(loader, 3)
    assert _loader_threads() == []


def test_a_shard_that_vanishes_reaches_the_consumer(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    name = shard_name("train", 0, 1)
    with open_shard(folder, name, ("x", "x_hat")) as writer:
        writer.add(Crop("0", "p", "c", {"x": _coordinates(0), "x_hat": _coordinates(0)}))
    loader = _loader(folder)
    folder.delete(name)
    with pytest.raises(DataError, match="got no such file"):
        next(loader.batches())
    assert _loader_threads() == []


def test_a_picture_smaller_than_the_crop_reaches_the_consumer(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with open_shard(folder, shard_name("train", 0, 1), ("x", "x_hat")) as writer:
        x = np.zeros((CROP - 1, CROP, 3), dtype=np.uint8)
        writer.add(Crop("0", "p", "c", {"x": x, "x_hat": x}))
    with pytest.raises(ValueError, match="high"):
        next(_loader(folder).batches())
    assert _loader_threads() == []


@pytest.mark.parametrize("taken", [1, 7])
def test_closing_the_iterator_stops_its_thread(shards: Folder, taken: int) -> None:
    batches = _loader(shards).batches()
    list(islice(batches, taken))
    assert len(_loader_threads()) == 1
    batches.close()
    assert _loader_threads() == []


def test_dropping_the_iterator_stops_its_thread(shards: Folder) -> None:
    batches = _loader(shards).batches()
    next(batches)
    del batches
    assert _loader_threads() == []


def test_two_iterators_of_one_loader_do_not_meet(shards: Folder) -> None:
    loader = _loader(shards)
    one, other = loader.batches(0), loader.batches(16)
    mixed = [next(one), next(other), next(one), next(other)]
    one.close()
    other.close()
    np.testing.assert_array_equal(np.concatenate([mixed[0], mixed[2], mixed[1], mixed[3]]), _take(loader, 4))
