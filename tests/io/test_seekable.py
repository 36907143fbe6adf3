"""Positions of :class:`SeekableFile` follow those of ``io.BytesIO``, the oracle."""

import io

from hypothesis import given
from hypothesis import strategies as st

from hfd.io.seekable import SeekableFile

DATA = bytes(range(50))


class Held(SeekableFile):
    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        found = DATA[self._position : self._position + len(buffer)]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("seek"), st.integers(0, 80), st.just(io.SEEK_SET)),
            st.tuples(st.just("seek"), st.integers(-40, 40), st.sampled_from([io.SEEK_CUR, io.SEEK_END])),
            st.tuples(st.just("read"), st.integers(0, 60), st.just(0)),
        )
    )
)
def test_position_and_bytes_are_those_of_bytes_in_memory(calls: list[tuple[str, int, int]]) -> None:
    ours, oracle = Held(len(DATA)), io.BytesIO(DATA)
    for name, amount, whence in calls:
        found = ours.seek(amount, whence) if name == "seek" else ours.read(amount)
        assert found == (oracle.seek(amount, whence) if name == "seek" else oracle.read(amount))
        assert ours.tell() == oracle.tell()


def test_position_before_the_start_is_the_start() -> None:
    file = Held(len(DATA))
    assert file.seek(-1) == 0
    assert file.read(2) == DATA[:2]
