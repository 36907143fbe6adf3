"""Hostile files never break the decoder: benchmarks/fuzz.py over some of its cases, HFD_FUZZ_CASES for more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from hfd.codec.codec import Codec
from hfd.codec.container import LATENTS, Container, pack, unpack
from hfd.errors import BitstreamError, DataError, DecodeMismatchError
from tests.support.hostile import hostile_file, sealed
from tests.support.paths import ROOT

pytestmark = pytest.mark.integration

CASES = int(os.environ.get("HFD_FUZZ_CASES", "400"))
PLAIN = pack(Container(3, 2, bytes(4), 128, 0, {LATENTS: b"payload!"}))


@pytest.fixture(scope="module")
def small_codec() -> Codec:
    codec: Codec = fuzz.small_codec()
    return codec


def test_hostile_files_are_refused_or_a_picture(tmp_path: Path) -> None:
    command = [*fuzz.PROGRAM, "--cases", str(CASES), "--keep", str(tmp_path / "failures")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stderr
    assert f"{CASES} files, 0 failures" in ended.stdout
    assert not (tmp_path / "failures").exists()
    # The cases pass the CRC and reach the symbols and pictures.
    table = {line[:18].strip(): [int(count) for count in line[18:].split()] for line in ended.stdout.splitlines()[1:-3]}
    heads = ended.stdout.splitlines()[0].split()
    assert set(heads) >= {"BitstreamError", "DecodeMismatchError", "picture"} and "failure" not in heads
    assert all(count > 0 for count in table["all"]) and sum(table["all"]) == CASES


SECTIONS = st.dictionaries(st.sampled_from([128, 129, 130, 131, 132, 133, 200]), st.binary(max_size=60), max_size=2)
PAYLOADS = st.binary(max_size=400).map(lambda data: data[: len(data) // 4 * 4]) | st.binary(max_size=20)


@settings(max_examples=max(10, CASES // 4))
@given(st.integers(1, 130), st.integers(1, 70), st.sampled_from([128, 128, 129, 0]), PAYLOADS, SECTIONS, st.binary())
def test_sound_containers_of_hostile_content(
    small_codec: Codec, width: int, height: int, rate: int, payload: bytes, optional: dict[int, bytes], tail: bytes
) -> None:
    """Hypothesis generates the parts; if symbols do not match, the checksum is forged too."""
    container = Container(width, height, small_codec.model, rate, 0, {LATENTS: payload, **optional})
    for data in (pack(container), sealed(pack(container)[:-4] + tail)):
        assert not fuzz.outcome_of(data, small_codec, 2**15).startswith("failure")


def test_a_case_is_the_same_each_time_and_files_are_cut_at_every_byte() -> None:
    files = [PLAIN, pack(Container(70, 33, bytes(4), 128, 9, {LATENTS: bytes(range(80)), 131: b"\x00\x00"}))]
    assert [hostile_file(i, files) for i in range(300)] == [hostile_file(i, files) for i in range(300)]
    cut = {
        case.data for case in (hostile_file(i, files) for i in range(8 * sum(map(len, files)))) if case.kind == "cut"
    }
    assert cut == {data[:length] for data in files for length in range(len(data))}


def test_most_cases_fit_their_crc() -> None:
    """Otherwise the code after the CRC would not be tested."""
    cases = [hostile_file(i, [PLAIN]).data for i in range(400)]
    past = 0
    for data in cases:
        try:
            unpack(data)
        except BitstreamError as error:
            past += "CRC32" not in str(error)
        else:
            past += 1
    assert past > 200


# --- the harness sees what goes wrong ------------------------------------------------------------


class _Codec:
    """Answers with a picture, or raises."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    def reconstruct(self, data: bytes, *, max_pixels: int) -> object:
        assert data and max_pixels
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


PICTURE = np.zeros((2, 3, 3), np.uint8)
MISMATCH = DecodeMismatchError("checksum of symbols: got 01234567, expected 00000000. The file is damaged")


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([PICTURE], "picture"),
        ([BitstreamError("x")], "BitstreamError"),
        ([DataError("x", reason="too-large")], "DataError"),
        ([MISMATCH, PICTURE], "DecodeMismatchError"),
        ([MISMATCH, MISMATCH], "failure: then DecodeMismatchError"),
        ([MISMATCH, ValueError("bad")], "failure: ValueError bad"),
        ([PICTURE[:1]], "failure: a picture of shape (1, 3, 3)"),
        ([DataError("other")], "failure: DataError other"),
        ([MemoryError()], "failure: MemoryError "),
    ],
)
def test_outcomes(answers: list[object], outcome: str) -> None:
    assert fuzz.outcome_of(PLAIN, _Codec(*answers), 100) == outcome


FAKE = """
import argparse, os, sys, time
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("--first", "--cases", "--max-pixels"):
    parser.add_argument(name, type=int)
parser.add_argument("--worker", type=Path)
arguments = parser.parse_args()
print("ready", flush=True)
for index in range(arguments.first, arguments.first + arguments.cases):
    arguments.worker.write_bytes(b"case %d" % index)
    if index == 3:
        os.abort()
    while index == 5:
        pass
    if index == 7:
        time.sleep(3600)
    if index == 6:
        arguments.worker.with_name("failed-6.hfd").write_bytes(b"case 6")
    print("kind", "failure: X" if index == 6 else "picture", "0.25", 100 + index, sep="\\t", flush=True)
"""


def test_a_crash_a_hang_and_a_failure_are_counted_kept_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(fuzz, "WATCHDOG_S", 1.0)
    monkeypatch.setattr(fuzz, "IDLE_S", 15.0)
    tally = fuzz.run(0, 9, 100, tmp_path / "kept", program=[sys.executable, str(tmp_path / "fake.py")])
    assert tally.outcomes == {("kind", "picture"): 5, ("kind", "failure: X"): 1}
    kept = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert kept == {f"case-{index}.hfd": b"case %d" % index for index in (3, 5, 6, 7)}
    found = [re.sub(rf": {tmp_path}.*", "", line) for line in tally.failures]
    assert found == [
        "case 3: crash, exit code -6",
        "case 5: hang of more than 1 s of processor time, exit code -9",
        "case 6: kind: failure: X",
        "case 7: standstill of more than 15 s, exit code -9",
    ]
    assert tally.peak_bytes == 108
