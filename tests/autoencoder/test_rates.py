"""Rate ids: steps against high-precision arithmetic, and invalid ids."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest

from hfd.autoencoder.rates import (
    DEFAULT_RATE,
    MAX_RATE,
    MIN_RATE,
    check_rate,
    check_rate_of_file,
    step_units,
)
from hfd.errors import BitstreamError, ConfigError


def test_steps_are_powers_of_two_rounded_to_1024ths() -> None:
    with localcontext() as context:
        context.prec = 60
        for rate in range(MIN_RATE, MAX_RATE + 1):
            exact = 1024 * Decimal(2) ** (Decimal(rate - 128) / 16)
            assert step_units(rate) == int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)), rate
    assert step_units(DEFAULT_RATE) == 1024
    assert [step_units(rate) for rate in (64, 112, 144, 192)] == [64, 512, 2048, 16384]


@pytest.mark.parametrize("rate", [-1, 0, 63, 193, 255])
def test_an_invalid_rate_is_refused(rate: int) -> None:
    with pytest.raises(ConfigError, match=f"rate: got {rate}, expected 64 to 192"):
        check_rate(rate)
    with pytest.raises(BitstreamError, match=f"rate: got {rate}, expected 64 to 192"):
        check_rate_of_file(rate)
