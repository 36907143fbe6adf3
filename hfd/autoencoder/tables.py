"""Integer tables of the entropy coder, and their form among a model's tensors. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hfd.autoencoder.entropy_weights import Arrays
from hfd.errors import DataError

TABLES = "tables."
"""Prefix of the names of their tensors."""

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """Cumulative frequencies of a family of distributions, int32.

    ``cdf`` (D, L): rows ascending from 0 to 2^16, padded with 0; ``lengths`` (D,): used entries of a row;
    ``offsets`` (D,): the smallest symbol of each row.
    """

    cdf: Ints
    lengths: Ints
    offsets: Ints

    def as_lists(self) -> tuple[list[list[int]], list[int], list[int]]:
        """Return lists for the coder, which copies them at every call: without padding, most of y's table."""
        return [row.tolist() for row in self.rows()], self.lengths.tolist(), self.offsets.tolist()

    def rows(self) -> list[Ints]:
        """The rows without padding."""
        return [row[:length] for row, length in zip(self.cdf, self.lengths, strict=True)]


@dataclass(frozen=True, eq=False)
class EntropyTables:
    """Tables of z (a row per channel, medians subtracted) and y (a row per scale); ``scales``: float32 (S,)."""

    z: FrequencyTables
    y: FrequencyTables
    scales: npt.NDArray[np.float32]


def stored_tables(tables: EntropyTables) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors of tables, by name."""
    stored: dict[str, npt.NDArray[np.generic]] = {f"{TABLES}scales": tables.scales}
    for name, family in (("z", tables.z), ("y", tables.y)):
        # Rows without padding: with it, y's table is as large as a small network.
        stored[f"{TABLES}{name}.cdf"] = np.concatenate(family.rows())
        stored[f"{TABLES}{name}.lengths"] = family.lengths
        stored[f"{TABLES}{name}.offsets"] = family.offsets
    return stored


def read_tables(arrays: Arrays, N: int, where: str) -> EntropyTables:
    """The tables of a model with N channels of z, among its tensors; ``where``: its name, for errors.

    Raises :class:`DataError` for tables that the coder cannot use.
    """
    scales = _found(arrays, f"{TABLES}scales", where).astype(np.float32)
    if scales.ndim != 1 or not len(scales):
        raise DataError(f"{where}: {TABLES}scales: got {scales.shape}, expected a row. Make or fetch the model again")
    return EntropyTables(_family(arrays, "z", N, where), _family(arrays, "y", len(scales), where), scales)


def _found(arrays: Arrays, name: str, where: str) -> npt.NDArray[np.generic]:
    if name not in arrays:
        raise DataError(f"{where}: weights lack '{name}'. Make or fetch the model again")
    return arrays[name]


def _family(arrays: Arrays, name: str, rows: int, where: str) -> FrequencyTables:
    found = [_found(arrays, f"{TABLES}{name}.{part}", where) for part in ("lengths", "offsets", "cdf")]
    lengths, offsets, flat = (array.astype(np.int32, copy=False) for array in found)
    # The coder, in C++, uses these numbers as indexes without checks.
    whole = lengths.shape == offsets.shape == (rows,) and bool((lengths >= 3).all())
    typed = all(array.dtype == np.int32 for array in found)
    if not typed or not whole or flat.shape != (int(lengths.sum(dtype=np.int64)),):
        raise DataError(
            f"{where}: {TABLES}{name}: got {flat.shape}, {lengths.shape} and {offsets.shape}, "
            f"expected {rows} rows of int32. Make or fetch the model again"
        )
    cdf = np.zeros((rows, int(lengths.max())), np.int32)
    for line, row in zip(cdf, np.split(flat, np.cumsum(lengths)[:-1]), strict=True):
        if row[0] != 0 or row[-1] != 2**16 or bool((np.diff(row.astype(np.int64)) <= 0).any()):
            raise DataError(
                f"{where}: {TABLES}{name}.cdf: got a row that does not ascend from 0 to 65536. "
                "Make or fetch the model again"
            )
        line[: len(row)] = row
    return FrequencyTables(cdf, lengths, offsets)
