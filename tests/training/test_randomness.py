"""Random numbers of training steps: they depend on the sample, never on the worker."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hfd.training.randomness import SampleRandomness, worker_randomness
from tests.support.tiny_training import CPU

SHAPE = (3, 5, 7)


def drawn(randomness: SampleRandomness) -> dict[str, torch.Tensor]:
    """By name, a row a sample."""
    return {
        "normal": randomness.normal(SHAPE, "a", CPU),
        "rounding": randomness.rounding(SHAPE, "a", CPU),
        "shared": randomness.of_samples(torch.rand((randomness.batch_size, 4), generator=randomness.shared("a"))),
    }


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_a_sample_draws_the_same_on_any_worker(seed: int, step: int, batch_size: int, world: int) -> None:
    world = min(world, batch_size)
    whole = drawn(worker_randomness(seed, step, batch_size))
    for rank in range(world):
        part = drawn(worker_randomness(seed, step, batch_size, rank, world))
        for name, value in part.items():
            assert torch.equal(value, whole[name][rank::world])


@given(st.integers(1, 9), st.integers(0, 9))
def test_a_sample_draws_the_same_in_any_part_of_a_batch(batch_size: int, cut: int) -> None:
    cut = min(cut, batch_size)
    randomness = worker_randomness(1, 2, batch_size)
    parts = [drawn(randomness.part(begin, end)) for begin, end in ((0, cut), (cut, batch_size)) if end > begin]
    for name, value in drawn(randomness).items():
        assert torch.equal(torch.cat([part[name] for part in parts]), value)


def test_a_sample_is_known_by_its_number_alone() -> None:
    """Sample 24 of a training: the first of step 3 in batches of 8, the last but seven of step 1 in batches of 16."""
    eight, sixteen = worker_randomness(5, 3, 8), worker_randomness(5, 1, 16)
    assert torch.equal(eight.normal(SHAPE, "a", CPU), sixteen.normal(SHAPE, "a", CPU)[8:])


def test_seeds_steps_samples_and_streams_draw_different_numbers() -> None:
    rows = [
        row
        for seed in range(3)
        for step in range(4)
        for stream in ("a", "b")
        for row in worker_randomness(seed, step, 5).normal((2,), stream, CPU)
    ]
    assert len({tuple(row.tolist()) for row in rows}) == 3 * 4 * 2 * 5
    shared = {
        float(torch.rand((), generator=worker_randomness(seed, step, 5).shared(stream)))
        for seed in range(3)
        for step in range(4)
        for stream in ("a", "b")
    }
    assert len(shared) == 24


def test_draws_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    drawn(worker_randomness(1, 2, 3))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_distributions() -> None:
    randomness = worker_randomness(0, 0, 200)
    normal, rounding = randomness.normal((1000,), "a", CPU), randomness.rounding((1000,), "b", CPU)
    # 200,000 numbers: five standard errors are 0.011 of a mean and 0.008 of a standard deviation.
    assert float(normal.mean()) == pytest.approx(0.0, abs=0.011)
    assert float(normal.std()) == pytest.approx(1.0, abs=0.008)
    assert float(rounding.min()) >= -0.5 and float(rounding.max()) < 0.5
    assert float(rounding.std()) == pytest.approx(12**-0.5, abs=0.002)
    # Neighbours are independent: no two of 200 rows correlate beyond chance (about 1/sqrt(1000) each).
    correlations = torch.corrcoef(normal) - torch.eye(200)
    assert float(correlations.abs().max()) < 6 * 1000**-0.5
