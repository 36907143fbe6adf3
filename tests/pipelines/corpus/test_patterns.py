"""Patterns of file names, against bash and against fnmatch."""

from __future__ import annotations

import fnmatch
import glob
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.errors import ConfigError
from pipelines.corpus.patterns import MAX_NAMES, expand, has_pattern, ignored, literal_start, name_set, split_pattern

WORDS = st.text("abz019-_.", min_size=1, max_size=3)
NUMBERS = st.integers(0, 12).flatmap(lambda number: st.sampled_from([f"{number}", f"{number:03d}", f"-{number + 1}"]))
STEPS = st.sampled_from(["", "..2", "..-3", "..0"])
RANGES = st.tuples(NUMBERS, NUMBERS, STEPS).map("{{{0[0]}..{0[1]}{0[2]}}}".format)
LETTERS = st.tuples(st.sampled_from("abz"), st.sampled_from("adz"), STEPS).map("{{{0[0]}..{0[1]}{0[2]}}}".format)
PATTERNS = st.recursive(
    WORDS | RANGES | LETTERS | LETTERS.map(str.upper),
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "{" + ",".join(parts) + "}")
        | st.tuples(inner, inner).map("".join)
    ),
    max_leaves=6,
)


@pytest.mark.integration
@given(pattern=PATTERNS)
def test_braces_expand_as_in_bash(pattern: str) -> None:
    found = subprocess.run(["bash", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    assert expand(pattern) == found.stdout.splitlines()


ONE_NAME = st.lists(WORDS | st.just("*"), min_size=1, max_size=4).map("".join).filter(lambda pattern: pattern != "**")


@given(pattern=ONE_NAME, name=WORDS | st.text("abz/019"))
def test_stars_match_as_in_fnmatch_within_one_folder(pattern: str, name: str) -> None:
    for candidate in (name, pattern.replace("*", name), pattern.replace("*", "")):
        expected = fnmatch.fnmatchcase(candidate, pattern) and "/" not in candidate
        assert (candidate in name_set(pattern)) is expected


PARTS = st.lists(st.sampled_from(["a", "b", "ab", "**", "a*", "*"]), min_size=1, max_size=4)


@given(pattern=PARTS.map("/".join), names=st.lists(st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4)))
def test_two_stars_stand_for_any_folders_as_in_glob(pattern: str, names: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {"/".join([*(f"{part}.d" for part in parts[:-1]), parts[-1]]) for parts in names}
        for name in files:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).touch()
        pattern = re.sub(r"(?<=[ab])(?=/)", ".d", pattern)
        expected = {name for name in glob.glob(pattern, root_dir=folder, recursive=True) if name in files}  # noqa: PTH207
        found = name_set(pattern)
        assert {name for name in files if name in found} == expected


@given(start=st.integers(0, 99), count=st.integers(1, 200))
def test_a_padded_range_has_names_of_one_length(start: int, count: int) -> None:
    names = expand(f"x-{{{start:05d}..{start + count - 1:05d}}}.tar")
    assert names == [f"x-{number:05d}.tar" for number in range(start, start + count)]


def test_text_without_a_range_or_comma_stays() -> None:
    for text in ("a{b}c", "{", "}", "a{1..}", "{a..B}", "{a..3}", "{1..2..}", "plain"):
        assert expand(text) == [text] and not has_pattern(text)
    assert expand("{x{1..2}}") == ["{x1}", "{x2}"]
    assert has_pattern("a*") and has_pattern("{1..2}") and has_pattern("{a,b}")


def test_a_pattern_is_divided_at_a_folder() -> None:
    assert split_pattern("s3://b/p/x-{0..9}.tar") == ("s3://b/p", "x-{0..9}.tar")
    assert split_pattern("/*.tar") == ("/", "*.tar")
    assert split_pattern("p/{a,b}/x*.tar") == ("p", "{a,b}/x*.tar")
    assert split_pattern("*.tar") == (".", "*.tar")
    assert literal_start("x-{0..9}.tar") == "x-" and literal_start("*") == ""


@given(
    pattern=st.lists(st.sampled_from("ab*"), min_size=1, max_size=3).map("".join).filter(lambda text: text != "**"),
    parts=st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4),
    kind=st.sampled_from(["{}", "{}/", "/{}", "{}/b", "/a/{}/"]),
)
def test_ignored_files_lie_below_a_name_that_fits(pattern: str, parts: list[str], kind: str) -> None:
    wanted = kind.format(pattern).strip("/").split("/")
    anchored = "/" in kind.rstrip("/")
    starts = [0] if anchored else range(len(parts))
    expected = any(
        len(parts) >= start + len(wanted) and all(map(fnmatch.fnmatchcase, parts[start : start + len(wanted)], wanted))
        for start in starts
    )
    found = ignored(["nothing", kind.format(pattern)])
    assert found is not None and found("/".join(parts)) is expected
    assert ignored([]) is None


def test_too_many_names_are_refused_before_they_are_made() -> None:
    assert len(expand("{1..1000}{1..10}")) == 10_000
    for pattern in ("{1..9999999999}{1..9999999999}", "{1..99999999999999999999}", "{9999999999..1..2}"):
        with pytest.raises(ConfigError, match=f"more than {MAX_NAMES} names"):
            expand(pattern)
