"""Tables of the entropy coder: integers that follow from the model alone."""

from __future__ import annotations

import copy

import pytest
import torch

from hfd.autoencoder.coding import EntropyTables, FrequencyTables, LatentCoder, build_tables, scale_indexes
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import DEFAULT_RATE, MAX_RATE, MIN_RATE, step_units
from hfd.errors import DataError
from tests.support.networks import lively_elic


@pytest.fixture(scope="module")
def model() -> Elic:
    return lively_elic(16, 16, (8, 8))


def families(tables: EntropyTables) -> list[FrequencyTables]:
    return [tables.z, tables.y]


def test_tables_are_integers_that_a_coder_can_use(model: Elic) -> None:
    tables = build_tables(model)
    assert len(tables.z.lengths) == model.N and len(tables.y.lengths) == len(tables.scales)
    assert bool((tables.scales.diff() > 0).all())
    for family in families(tables):
        assert family.cdf.dtype == family.lengths.dtype == family.offsets.dtype == torch.int32
        assert not any(tensor.is_floating_point() for tensor in (family.cdf, family.lengths, family.offsets))
        for row, length in zip(family.cdf, family.lengths.tolist(), strict=True):
            assert int(row[0]) == 0 and int(row[length - 1]) == 2**16
            assert bool((row[:length].diff() > 0).all())
            assert not bool(row[length:].any())


def test_tables_come_from_the_model_and_leave_it_alone(model: Elic) -> None:
    before = copy.deepcopy(model.state_dict())
    tables = build_tables(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for one, other in zip(families(tables), families(build_tables(model)), strict=True):
        assert torch.equal(one.cdf, other.cdf)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.entropy_bottleneck.matrices[0].add_(0.5)
    assert not torch.equal(build_tables(other).z.cdf, tables.z.cdf)


def test_a_model_that_cannot_be_exact_has_no_tables(model: Elic) -> None:
    wild = copy.deepcopy(model)
    with torch.no_grad():
        wild.param_aggregation[1][2].weight[0, 0] = 1e6
    with pytest.raises(DataError, match=r"param_aggregation\.1\.1: got weights whose sums can reach"):
        build_tables(wild)


def test_table_of_a_scale_is_the_nearest_by_ratio(model: Elic) -> None:
    tables = build_tables(model)
    coder = LatentCoder(model, tables)
    scales = tables.scales
    half = float((scales[6] / scales[5]).sqrt())
    between = [float(scales[5]) * half * 0.97, float(scales[5]) * half * 1.03]
    asked = torch.tensor([-1.0, 0.0, 0.11, float(scales[5]), *between, 255.0, 1e6], dtype=torch.float64)
    expected = [0, 0, 0, 5, 5, 6, len(scales) - 1, len(scales) - 1]
    for rate in (MIN_RATE, DEFAULT_RATE, MAX_RATE):
        thresholds = coder.thresholds(rate)
        assert bool((thresholds == thresholds.floor()).all())
        # The scale of a symbol is that of the latent over the step.
        units = (asked * step_units(rate)).round()
        assert scale_indexes(units.unsqueeze(0), thresholds) == expected
