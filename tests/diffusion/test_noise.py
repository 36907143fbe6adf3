"""Noise without torch is torch's own: a file's picture does not depend on what decodes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hfd.diffusion.noise import standard_normal

SIZES = [*range(1, 34), 47, 48, 1000, 3 * 64 * 64, 2**18 - 1, 2**18, 2**18 + 1, 2**18 + 16, 3 * 2**18 + 5]


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**31, 2**32 + 5, 2**63 - 1])
def test_numbers_are_those_of_torch(seed: int) -> None:
    for size in SIZES:
        expected = torch.randn(size, generator=torch.Generator().manual_seed(seed)).numpy()
        found = standard_normal(seed, size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=f"{size} numbers")


def test_another_seed_gives_other_numbers() -> None:
    """The generator keeps the low 32 bits of a seed, as torch's does."""
    assert not np.array_equal(standard_normal(1, 64), standard_normal(2, 64))
    assert np.array_equal(standard_normal(1, 64), standard_normal(2**32 + 1, 64))
