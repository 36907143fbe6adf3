"""The noise schedule against its formula in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hfd.diffusion.schedule import LOG_SNR_BOUND, CosineSchedule, alpha_sigma, time_grid

TIMES = torch.linspace(0.0, 1.0, 1001)


@pytest.mark.parametrize("s", [0.25, 0.5, 1.0, 4.0])
def test_log_snr_is_the_shifted_cosine(s: float) -> None:
    t = TIMES.double().numpy()[1:-1]
    expected = np.clip(-2 * (np.log(np.tan(np.pi * t / 2)) + np.log(s)), -15, 15)
    got = CosineSchedule(s).log_snr(TIMES)[1:-1]
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_s_of_one_is_the_plain_cosine() -> None:
    t = TIMES[1:-1]
    alpha, sigma = alpha_sigma(CosineSchedule(1.0).log_snr(t))
    inside = CosineSchedule(1.0).log_snr(t).abs() < LOG_SNR_BOUND
    assert int(inside.sum()) > 990
    torch.testing.assert_close(alpha[inside], torch.cos(math.pi / 2 * t)[inside], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sigma[inside], torch.sin(math.pi / 2 * t)[inside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("s", [0.5, 1.0, 4.0])
def test_ends_are_clamped_and_the_middle_descends(s: float) -> None:
    log_snr = CosineSchedule(s).log_snr(TIMES)
    assert float(log_snr[0]) == LOG_SNR_BOUND and float(log_snr[-1]) == -LOG_SNR_BOUND
    assert bool((log_snr.diff() <= 0).all())
    inside = log_snr.abs() < LOG_SNR_BOUND
    assert bool((log_snr[inside].diff() < 0).all())
    assert bool(torch.isfinite(log_snr).all())


@pytest.mark.parametrize("s", [0.25, 0.5, 1.0, 4.0])
def test_s_shifts_log_snr(s: float) -> None:
    """By -2 log s against the plain cosine, whatever the time; so that s < 1 is less noise."""
    t = TIMES[100:900]
    shift = CosineSchedule(s).log_snr(t) - CosineSchedule(1.0).log_snr(t)
    torch.testing.assert_close(shift, torch.full_like(shift, -2 * math.log(s)), rtol=1e-5, atol=2e-6)
    _, sigma = alpha_sigma(CosineSchedule(s).log_snr(t))
    _, plain = alpha_sigma(CosineSchedule(1.0).log_snr(t))
    assert bool((torch.sign(sigma - plain) == (s > 1) - (s < 1)).all())


def test_noise_is_half_where_tan_is_one_over_s() -> None:
    """log_snr = 0, alpha^2 = sigma^2 = 1/2, at t = 2/pi atan(1/s): 0.5 for the cosine, later with less noise."""
    for s, expected in ((1.0, 0.5), (0.5, 0.70483276), (4.0, 0.15595826)):
        t = torch.tensor([2 / math.pi * math.atan(1 / s)])
        assert float(t) == pytest.approx(expected, rel=1e-6)
        assert float(CosineSchedule(s).log_snr(t)) == pytest.approx(0.0, abs=2e-6)
        alpha, sigma = alpha_sigma(CosineSchedule(s).log_snr(t))
        assert (float(alpha) ** 2, float(sigma) ** 2) == pytest.approx((0.5, 0.5), rel=1e-5)


def test_variance_is_preserved() -> None:
    log_snr = torch.linspace(-LOG_SNR_BOUND, LOG_SNR_BOUND, 301)
    alpha, sigma = alpha_sigma(log_snr)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(alpha), rtol=0, atol=2e-7)
    torch.testing.assert_close((alpha / sigma).square().log(), log_snr, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_log_snr_keeps_the_shape(shape: tuple[int, ...]) -> None:
    assert CosineSchedule(0.5).log_snr(torch.full(shape, 0.3)).shape == shape


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_time_grid(steps: int) -> None:
    times = time_grid(steps)
    assert times.dtype == np.float32 and len(times) == steps + 1
    assert float(times[0]) == 1.0 and float(times[-1]) == 0.0
    np.testing.assert_allclose(np.diff(times), np.full(steps, -1.0 / steps), rtol=1e-5)
