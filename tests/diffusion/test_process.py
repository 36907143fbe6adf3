"""The diffusion process: its identities, and the times it is trained at."""

from __future__ import annotations

import pytest
import torch

from hfd.diffusion.decoder import build_process
from hfd.diffusion.process import Diffusion, stratified_times
from hfd.diffusion.schedule import CosineSchedule, alpha_sigma
from hfd.errors import DataError

PROCESS = Diffusion(CosineSchedule(0.5))


def drawn(*seeds: int) -> list[torch.Tensor]:
    return [torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


T = torch.tensor([0.02, 0.25, 0.5, 0.75, 0.98])


def test_training_pair_by_the_formulas() -> None:
    x0, eps = drawn(0, 1)
    pair = PROCESS.training_pair(x0, eps, T)
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in alpha_sigma(PROCESS.schedule.log_snr(T)))
    torch.testing.assert_close(pair.x_t, alpha * x0 + sigma * eps)
    torch.testing.assert_close(pair.target, alpha * eps - sigma * x0)
    # v rotates (x0, eps): both come back from x_t and v.
    torch.testing.assert_close(alpha * pair.x_t - sigma * pair.target, x0, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sigma * pair.x_t + alpha * pair.target, eps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pair.noise_level, PROCESS.schedule.log_snr(T) / 4)


def test_x0_of_the_target_is_x0() -> None:
    x0, eps = drawn(2, 3)
    pair = PROCESS.training_pair(x0, eps, T)
    torch.testing.assert_close(PROCESS.x0_pred(pair.x_t, pair.target, T), x0, rtol=1e-4, atol=1e-5)


def test_every_image_has_its_own_time() -> None:
    x0, eps = drawn(4, 5)
    whole = PROCESS.training_pair(x0, eps, T)
    for i in range(5):
        single = PROCESS.training_pair(x0[i : i + 1], eps[i : i + 1], T[i : i + 1])
        torch.testing.assert_close(single.x_t[0], whole.x_t[i])
        torch.testing.assert_close(single.target[0], whole.target[i])


def test_ends_of_time_are_data_and_noise() -> None:
    x0, eps = drawn(6, 7)
    data = PROCESS.training_pair(x0, eps, torch.zeros(5))
    noise = PROCESS.training_pair(x0, eps, torch.ones(5))
    # At the clamp sigma^2 (or alpha^2) is sigmoid(-15) = 3e-7.
    torch.testing.assert_close(data.x_t, x0, rtol=0, atol=5e-3)
    torch.testing.assert_close(noise.x_t, eps, rtol=0, atol=5e-3)
    assert bool(PROCESS.noise_level(torch.tensor([0.0, 1.0])).abs().max() < 4)


@pytest.mark.parametrize("batch", [1, 2, 8, 33])
def test_stratified_times_hold_one_per_stratum(batch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        t = stratified_times(batch, generator, torch.device("cpu"))
        assert t.shape == (batch,) and t.dtype == torch.float32
        assert bool((t > 0).all()) and bool((t < 1).all())
        assert (t.double() * batch).floor().tolist() == list(range(batch))
        torch.testing.assert_close(t.diff(), torch.full((batch - 1,), 1 / batch), rtol=1e-4, atol=1e-6)


def test_stratified_times_are_uniform() -> None:
    generator = torch.Generator().manual_seed(1)
    t = torch.stack([stratified_times(4, generator, torch.device("cpu")) for _ in range(4000)])
    # Standard error of a stratum's mean: (1/4) / sqrt(12 * 4000) = 0.0011.
    torch.testing.assert_close(t.mean(0), (torch.arange(4) + 0.5) / 4, rtol=0, atol=0.005)
    assert float(t.var(dim=0).mean()) == pytest.approx(1 / 16 / 12, rel=0.05)


def test_stratified_times_follow_the_generator() -> None:
    first, again, other = (
        stratified_times(3, torch.Generator().manual_seed(seed), torch.device("cpu")) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_build_process() -> None:
    assert build_process({"kind": "diffusion", "s": 0.25}) == Diffusion(CosineSchedule(0.25))
    for kind in ("rectified-flow", None, 3):
        with pytest.raises(DataError, match=rf"kind: got {kind!r}, expected 'diffusion'"):
            build_process({"kind": kind, "s": 0.5})
