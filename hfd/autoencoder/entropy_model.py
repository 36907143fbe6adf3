"""The parts of a model that entropy coding needs: weights of its integer networks, and its tables. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hfd.autoencoder.entropy_weights import Arrays
from hfd.autoencoder.rates import UNITS, Units
from hfd.autoencoder.tables import EntropyTables, read_tables
from hfd.errors import DataError
from hfd.io.weights import StoredWeights

QUANTILES = "entropy_bottleneck.quantiles"
PARTS = ("h_s.", "g_ch.", "g_sp.", "param_aggregation.", "entropy_bottleneck.")
"""Networks whose tensors entropy coding needs."""


@dataclass(frozen=True, eq=False)
class EntropyModel:
    """``N``: channels of z; ``groups``: channel groups of y; ``arrays``: stored tensors by name; ``tables``."""

    N: int
    groups: tuple[int, ...]
    arrays: Arrays
    tables: EntropyTables

    def medians(self) -> Units:
        """Medians of z's channels, (N, 1, 1), whole numbers in units of 1/1024."""
        quantiles = self.arrays[QUANTILES].astype(np.float32).astype(np.float64)
        return np.asarray(np.rint(quantiles[:, 0, 1] * UNITS)).reshape(-1, 1, 1)


def entropy_model_of(stored: StoredWeights) -> EntropyModel:
    """The entropy coding of a weights folder. Raises :class:`DataError` that names the fault."""
    arrays, config, where = stored.arrays(), stored.config, stored.where
    if config.get("arch") != "elic":
        raise DataError(f"arch: got {config.get('arch')!r}, expected 'elic'")
    try:
        N, M, groups = int(config["N"]), int(config["M"]), tuple(int(group) for group in config["groups"])
    except KeyError as error:
        raise DataError(f"{where}: weights lack {error}. Make or fetch the model again") from error
    except (TypeError, ValueError) as error:
        raise _impossible(where, repr(error)) from error
    if N < 1 or sum(groups) != M or not groups or min(groups) < 1:
        raise _impossible(where, f"N {N}, M {M}, groups {groups}")
    tables = read_tables(arrays, N, where)
    if QUANTILES not in arrays or arrays[QUANTILES].shape != (N, 1, 3):
        raise DataError(f"{where}: weights lack '{QUANTILES}' of {N} channels. Make or fetch the model again")
    kept = {name: array for name, array in arrays.items() if name.startswith(PARTS)}
    return EntropyModel(N, groups, kept, tables)


def _impossible(where: str, why: str) -> DataError:
    return DataError(
        f"{where}/config.json: describes no network that can be built ({why}). Make or fetch the model again"
    )
