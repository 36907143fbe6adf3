"""Samplers by process: settings, refusals, counts and results."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from hfd.diffusion.flow import PosteriorMeanFlow, RectifiedFlow
from hfd.diffusion.noise import noise_in
from hfd.diffusion.process import Process
from hfd.diffusion.samplers import ancestral, ddim, dpmpp_2m, euler, heun, midpoint
from hfd.diffusion.sampling import Sampling, run_sampler
from hfd.diffusion.schedule import CosineSchedule, time_grid
from hfd.diffusion.vp import Diffusion
from hfd.errors import ConfigError
from hfd.kinds import SamplerKind

DIFFUSION = Diffusion(CosineSchedule(0.5))
FLOWS: list[Process] = [RectifiedFlow(), PosteriorMeanFlow(sigma_s=0.2)]
OF_DIFFUSION: tuple[SamplerKind, ...] = ("ancestral", "ddim", "dpmpp-2m")
OF_FLOW: tuple[SamplerKind, ...] = ("euler", "heun", "midpoint")
PAIRS = [(DIFFUSION, kind) for kind in OF_DIFFUSION] + [(flow, kind) for flow in FLOWS for kind in OF_FLOW]

X_HAT = torch.linspace(-1, 1, 96).reshape(2, 3, 4, 4)
NOISE = noise_in([1, 2], 3, (4, 4), torch.device("cpu"))


def bent(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(1.5 * x_t + 0.3) * (1 - t.reshape(-1, 1, 1, 1)) ** 2 + 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: got 0, expected at least 1"),
        ({"steps": -3}, "steps: got -3, expected at least 1"),
        (
            {"steps": 5, "kind": "dpmpp"},
            "sampler: got 'dpmpp', expected one of auto, ancestral, ddim, dpmpp-2m, euler, heun, midpoint",
        ),
        ({"steps": 5, "gamma": 1.1}, "gamma: got 1.1, expected 0 to 1"),
        ({"steps": 5, "gamma": -0.1}, "gamma: got -0.1, expected 0 to 1"),
        ({"steps": 5, "gamma": float("nan")}, "gamma: got nan, expected 0 to 1"),
        ({"steps": 5, "realism": 2.0}, "realism: got 2.0, expected 0 to 1"),
        ({"steps": 5, "realism": -1.0}, "realism: got -1.0, expected 0 to 1"),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(**values)
    assert str(caught.value) == message


def test_bounds_are_allowed() -> None:
    for value in (0.0, 1.0):
        Sampling(1, gamma=value, realism=value)


@pytest.mark.parametrize("kind", get_args(SamplerKind))
@pytest.mark.parametrize("process", [DIFFUSION, *FLOWS])
def test_a_sampler_that_does_not_fit_is_refused(process: Process, kind: SamplerKind) -> None:
    settings = Sampling(4, kind=kind)
    if kind == "auto":
        assert settings.kind_for(process) == ("ancestral" if process is DIFFUSION else "euler")
        return
    fitting = OF_DIFFUSION if process is DIFFUSION else OF_FLOW
    if kind in fitting:
        assert settings.kind_for(process) == kind
        return
    name = "diffusion" if process is DIFFUSION else "flow"
    for ask in (
        lambda: settings.kind_for(process),
        lambda: settings.evaluations(process),
        lambda: run_sampler(settings, process, bent, X_HAT, NOISE),
    ):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert str(caught.value) == (
            f"sampler: got {kind}, expected one of {', '.join(fitting)}, since this model's decoder is a {name}"
        )


@pytest.mark.parametrize(("process", "kind"), PAIRS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_evaluations_are_counted(process: Process, kind: SamplerKind, steps: int) -> None:
    calls, told = [], []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return bent(x_t, t)

    settings = Sampling(steps, kind=kind)
    x0 = run_sampler(settings, process, denoise, X_HAT, NOISE, told.append)
    assert len(calls) == settings.evaluations(process)
    assert told == list(range(steps))
    assert x0.shape == X_HAT.shape and bool(torch.isfinite(x0).all())


def test_evaluations_of_auto() -> None:
    assert [Sampling(6).evaluations(process) for process in (DIFFUSION, *FLOWS)] == [6, 6, 6]


@pytest.mark.parametrize(("process", "kind"), PAIRS)
def test_a_sample_is_the_samplers_result_from_its_start(process: Process, kind: SamplerKind) -> None:
    """Evenly spaced from 1 to 0, from ``process.start`` of x_hat and noise(0); gamma reaches the ancestral one."""
    got = run_sampler(Sampling(5, kind=kind, gamma=0.7 * (kind == "ancestral")), process, bent, X_HAT, NOISE)
    x1, times, schedule = NOISE(0), time_grid(5), DIFFUSION.schedule
    if isinstance(process, PosteriorMeanFlow):
        x1 = X_HAT + 0.2 * x1
    expected = {
        "ancestral": lambda: ancestral(bent, x1, NOISE, schedule, times, gamma=0.7),
        "ddim": lambda: ddim(bent, x1, schedule, times),
        "dpmpp-2m": lambda: dpmpp_2m(bent, x1, schedule, times),
        "euler": lambda: euler(bent, x1, times),
        "heun": lambda: heun(bent, x1, times),
        "midpoint": lambda: midpoint(bent, x1, times),
    }[kind]()
    assert torch.equal(got, expected)


@pytest.mark.parametrize(("process", "kind"), [pair for pair in PAIRS if pair[1] != "ancestral"])
def test_gamma_is_refused_where_it_would_do_nothing(process: Process, kind: SamplerKind) -> None:
    with pytest.raises(ConfigError, match=rf"^gamma: got 0\.5, expected 0 with {kind}: only the ancestral"):
        Sampling(5, kind=kind, gamma=0.5).kind_for(process)


def test_gamma_is_refused_by_a_flow_on_auto() -> None:
    with pytest.raises(ConfigError, match="gamma: got 1, expected 0 with euler"):
        Sampling(5, gamma=1.0).kind_for(FLOWS[0])


def test_labels_distinguish_settings() -> None:
    labels = {
        Sampling(1).label: "1 step",
        Sampling(50).label: "50 steps",
        Sampling(8, kind="heun").label: "8 steps, heun",
        Sampling(8, gamma=0.25).label: "8 steps, gamma 0.25",
        Sampling(8, realism=0.5, grain=True).label: "8 steps, realism 0.5, grain",
        Sampling(8, "ancestral", 1.0, 0.0).label: "8 steps, ancestral, gamma 1, realism 0",
    }
    assert list(labels) == list(labels.values())


STOPS = [(4, 1.0, [1.0]), (4, 0.5, [1.0, 0.75, 0.5]), (4, 0.6, [1.0, 0.75, 0.6]), (5, 0.2, [1.0, 0.8, 0.6, 0.4, 0.2])]


@pytest.mark.parametrize(("steps", "stop", "times"), STOPS)
def test_a_stop_cuts_the_grid_off_at_its_time(steps: int, stop: float, times: list[float]) -> None:
    assert Sampling(steps, stop=stop).times.tolist() == pytest.approx(times)
    assert Sampling(steps).times.tolist() == pytest.approx([1.0 - k / steps for k in range(steps)] + [0.0])


@pytest.mark.parametrize(("process", "kind"), PAIRS)
@pytest.mark.parametrize(("steps", "stop", "times"), STOPS)
def test_an_early_stop_is_the_prediction_at_its_time(
    process: Process, kind: SamplerKind, steps: int, stop: float, times: list[float]
) -> None:
    """It equals the unstopped sampler at that time of its path, denoised once more. Evaluations are counted."""
    calls, told = [], []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return bent(x_t, t)

    settings = Sampling(steps, kind=kind, stop=stop)
    got = run_sampler(settings, process, denoise, X_HAT, NOISE, told.append)
    assert len(calls) == settings.evaluations(process)
    assert told == list(range(settings.num_parts)) == list(range(len(times)))
    assert calls[-1].tolist() == pytest.approx([stop] * 2)

    x1, grid, schedule = process.start(X_HAT, NOISE(0)), torch.tensor(times), DIFFUSION.schedule
    x_t = {
        "ancestral": lambda: ancestral(bent, x1, NOISE, schedule, grid),
        "ddim": lambda: ddim(bent, x1, schedule, grid),
        "dpmpp-2m": lambda: dpmpp_2m(bent, x1, schedule, grid),
        "euler": lambda: euler(bent, x1, grid),
        "heun": lambda: heun(bent, x1, grid),
        "midpoint": lambda: midpoint(bent, x1, grid),
    }[kind]()
    torch.testing.assert_close(got, bent(x_t, torch.full((2,), stop)), rtol=0, atol=1e-5)


def test_a_stop_is_named_and_bounded() -> None:
    assert Sampling(8, stop=0.25).label == "8 steps, stop 0.25"
    with pytest.raises(ConfigError, match=r"^stop: got 1\.5, expected 0 to 1$"):
        Sampling(8, stop=1.5)
