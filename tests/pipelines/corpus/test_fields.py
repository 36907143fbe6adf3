"""Fields of pictures: conditions, and the side files of samples."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.io.storage import Folder
from pipelines.corpus.packs.fields import Condition, Fields, satisfies, text_of, unmet
from pipelines.corpus.packs.pack import Member, MemberSettings, Pack, is_chosen
from pipelines.corpus.packs.samples import MAX_SIDE_BYTES
from pipelines.corpus.packs.tars import read_tar
from tests.support.packs import tar_of

COMPARE = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
NUMBERS = st.integers(-5, 5) | st.floats(-5, 5)
TEXTS = st.sampled_from(["", "a", "b", "cc0", "cc-by"])


@given(
    pair=st.tuples(st.none() | NUMBERS, NUMBERS) | st.tuples(st.none() | TEXTS, TEXTS),
    mark=st.sampled_from(sorted(COMPARE)),
)
def test_conditions_agree_with_arrow(pair: tuple[object, object], mark: str) -> None:
    value, expected = pair
    kind = pa.string() if isinstance(expected, str) else pa.float64()
    result = COMPARE[mark](pa.array([value], kind), pa.scalar(expected, kind))[0].as_py()
    assert satisfies((("x", value),), [("x", mark, expected)]) is bool(result)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        ("cc0", ("x", "in", ("cc0", "cc-by")), True),
        ("nd", ("x", "not in", ("cc0", "cc-by")), True),
        (None, ("x", "not in", ("cc0",)), False),
        ("640", ("x", ">=", 512), True),
        ("wide", ("x", ">=", 512), False),
        (True, ("x", "==", 1), False),
        ([1], ("x", "<", 2), False),
    ],
)
def test_lists_texts_and_other_types(value: object, condition: Condition, expected: bool) -> None:
    assert satisfies((("x", value),), [condition]) is expected
    assert not satisfies((), [condition])


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ((("licence", "nd"), ("width", 600)), "got licence 'nd', expected in ('cc0', 'cc-by')"),
        ((("licence", "cc0"),), "got no width, expected >= 512"),
        ((("licence", "cc0"), ("width", 600)), None),
        ((("licence", "x" * 100),), f"got licence '{'x' * 60}', expected in ('cc0', 'cc-by')"),
    ],
)
def test_the_first_condition_that_does_not_hold_is_named(fields: Fields, line: str | None) -> None:
    assert unmet(fields, [("licence", "in", ("cc0", "cc-by")), ("width", ">=", 512)]) == line


def test_fields_have_texts() -> None:
    assert [text_of(value) for value in ("a", 1, 0.5, True, ["ü"])] == ["a", "1", "0.5", "true", '["ü"]']


@given(st.lists(st.text(), unique=True, max_size=50), st.floats(0.01, 0.99))
def test_a_larger_share_chooses_the_same_keys_and_more(keys: list[str], share: float) -> None:
    some = {key for key in keys if is_chosen(key, share)}
    assert some <= {key for key in keys if is_chosen(key, (1.0 + share) / 2.0)} <= set(keys)
    assert all(is_chosen(key, 1.0) for key in keys)


def test_a_share_is_met() -> None:
    assert 0.28 < sum(is_chosen(f"{number}", 0.3) for number in range(10_000)) / 10_000 < 0.32


def read(contents: list[tuple[str, bytes]], *names: str) -> list[Member]:
    pack = Pack("x.tar", Folder("nowhere"), "x.tar", 0, "stamp")
    return list(read_tar(io.BytesIO(tar_of(contents)), pack, MemberSettings(metadata=names)))


def test_side_files_belong_to_the_pictures_of_their_sample() -> None:
    contents = [
        ("d/1.txt", b" a cat\n"), ("d/1.jpg", b"1"), ("d/1.json", json.dumps({"licence": "cc0", "width": 9}).encode()),
        ("d/2.left.jpg", b"2"), ("d/2.right.jpg", b"3"), ("d/2.json", b'{"caption": "both"}'),
        ("e/2.jpg", b"4"), ("e/3.jpg", b"5"), ("e/3.json", b"{no"), ("e/3.cls", b"7"),
        ("e/4.json", b" " * (MAX_SIDE_BYTES + 1)), ("e/4.jpg", b"6"),
    ]  # fmt: skip
    found = read(contents, "caption", "licence", "width", "cls")
    assert [(member.key, dict(member.fields)) for member in found] == [
        ("x.tar/d/1.jpg", {"caption": "a cat", "licence": "cc0", "width": 9}),
        ("x.tar/d/2.left.jpg", {"caption": "both"}),
        ("x.tar/d/2.right.jpg", {"caption": "both"}),
        ("x.tar/e/2.jpg", {}),
        ("x.tar/e/3.jpg", {"cls": "7"}),
        ("x.tar/e/4.jpg", {}),
    ]
    assert [member.data for member in found] == [member.data for member in read(contents)]


def test_pictures_of_one_long_sample_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.corpus.packs.tars.MAX_HELD_BYTES", 10)
    contents = [(f"a.{number}.jpg", bytes(4)) for number in range(20)]
    found = read([*contents, ("a.json", b'{"caption": "late"}')], "caption")
    assert len(found) == 20 and sum(not member.fields for member in found) > 0
