"""The compact list of photographs, against a list of objects."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from hfd.io.entry import Entry
from hfd.io.storage import Folder
from pipelines.corpus.photo import Photo
from pipelines.corpus.photo_list import PhotoList

FOLDER = Folder("s3://bucket/prefix")
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1, max_size=8)
ENTRIES = st.lists(
    st.builds(
        Entry, NAMES, st.integers(0, 2**63), st.text("0123456789abcdef-", max_size=34), st.sampled_from(["", "X"])
    ),
    unique_by=lambda entry: entry.key,
    max_size=12,
)
BOUNDS = st.none() | st.integers(-15, 15)


def listed(entries: list[Entry]) -> PhotoList:
    photos = PhotoList(FOLDER)
    for entry in entries:
        assert PhotoList.holds(entry)
        photos.append(entry)
    return photos


@given(entries=ENTRIES)
def test_photographs_are_those_of_a_sorted_list(entries: list[Entry]) -> None:
    photos = listed(entries)
    expected = [Photo(one.key, FOLDER, one.key, one.size, one.stamp, one.archive) for one in entries]
    assert list(photos) == expected and photos == expected and len(photos) == len(expected)
    photos.sort()
    assert list(photos) == sorted(expected, key=lambda photo: photo.key)


@given(entries=ENTRIES, first=st.tuples(BOUNDS, BOUNDS), second=st.tuples(BOUNDS, BOUNDS))
def test_slices_and_slices_of_slices_are_those_of_a_list(
    entries: list[Entry], first: tuple[int | None, int | None], second: tuple[int | None, int | None]
) -> None:
    photos = listed(entries)
    photos.sort()
    view, expected = photos[slice(*first)][slice(*second)], list(photos)[slice(*first)][slice(*second)]
    assert list(view) == expected and view == expected and bool(view) is bool(expected)
    assert [view[index] for index in range(len(view))] == expected
    sent = pickle.loads(pickle.dumps(view))
    assert isinstance(sent, tuple) and list(sent) == expected
    assert photos != [*photos, None] and (not expected or view != expected[1:])


def test_a_text_with_a_zero_byte_is_not_held() -> None:
    assert not PhotoList.holds(Entry("a\0.jpg", 1, "2")) and PhotoList.holds(Entry("a.jpg", 1, "2"))
