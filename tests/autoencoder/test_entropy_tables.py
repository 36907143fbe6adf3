"""Tables of the entropy coder: integers that follow from the model alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from hfd.autoencoder.coding import scale_indexes
from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import DEFAULT_RATE, MAX_RATE, MIN_RATE, step_units
from hfd.autoencoder.tables import EntropyTables, FrequencyTables
from hfd.errors import DataError
from tests.support.coders import tensor_coder
from tests.support.networks import lively_elic


@pytest.fixture(scope="module")
def model() -> Elic:
    return lively_elic(16, 16, (8, 8))


def families(tables: EntropyTables) -> list[FrequencyTables]:
    return [tables.z, tables.y]


def test_tables_are_integers_that_a_coder_can_use(model: Elic) -> None:
    tables = build_tables(model)
    assert len(tables.z.lengths) == model.N and len(tables.y.lengths) == len(tables.scales)
    assert bool((np.diff(tables.scales) > 0).all())
    for family in families(tables):
        assert family.cdf.dtype == family.lengths.dtype == family.offsets.dtype == np.int32
        for row, length in zip(family.cdf, family.lengths.tolist(), strict=True):
            assert int(row[0]) == 0 and int(row[length - 1]) == 2**16
            assert bool((np.diff(row[:length]) > 0).all())
            assert not row[length:].any()


def test_tables_come_from_the_model_and_leave_it_alone(model: Elic) -> None:
    before = copy.deepcopy(model.state_dict())
    tables = build_tables(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for one, other in zip(families(tables), families(build_tables(model)), strict=True):
        assert np.array_equal(one.cdf, other.cdf)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.entropy_bottleneck.matrices[0].add_(0.5)
    assert not np.array_equal(build_tables(other).z.cdf, tables.z.cdf)


def test_a_model_that_cannot_be_exact_has_no_tables(model: Elic) -> None:
    wild = copy.deepcopy(model)
    with torch.no_grad():
        wild.param_aggregation[1][2].weight[0, 0] = 1e6
    with pytest.raises(DataError, match=r"param_aggregation\.1\.1: got weights whose sums can reach"):
        build_tables(wild)


def test_table_of_a_scale_is_the_nearest_by_ratio(model: Elic) -> None:
    tables = build_tables(model)
    coder = tensor_coder(model, tables)
    scales = tables.scales
    half = float(np.sqrt(scales[6] / scales[5]))
    between = [float(scales[5]) * half * 0.97, float(scales[5]) * half * 1.03]
    asked = np.array([-1.0, 0.0, 0.11, float(scales[5]), *between, 255.0, 1e6])
    expected = [0, 0, 0, 5, 5, 6, len(scales) - 1, len(scales) - 1]
    for rate in (MIN_RATE, DEFAULT_RATE, MAX_RATE):
        thresholds = coder.coder.thresholds(rate)
        assert np.array_equal(thresholds, np.floor(thresholds))
        # The scale of a symbol is that of the latent over the step.
        units = np.rint(asked * step_units(rate))
        assert scale_indexes(units[None], thresholds) == expected
