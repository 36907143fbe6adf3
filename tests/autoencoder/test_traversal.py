"""Integer traversal: the float traversal's parameters, the same integers for any bands, kernels and threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from hfd.autoencoder import fixed_point
from hfd.autoencoder.model import Elic, checkerboard
from hfd.autoencoder.rates import Units
from hfd.autoencoder.traversal import LatentPart, LatentTraversal, put, take
from hfd.autoencoder.weights import entropy_arrays
from hfd.engine.base import Values
from tests.support.networks import lively_elic

HEIGHT, WIDTH = 16, 8
WHOLE = ((0, HEIGHT),)


@pytest.fixture(scope="module")
def model() -> Elic:
    model = lively_elic(8, 12, (4, 4, 4))
    with torch.no_grad():  # parameters that differ from place to place
        for k in range(3):
            model.param_aggregation[k][-1].weight.mul_(8.0)
    return model


def symbols(seed: int = 0) -> Units:
    return np.random.default_rng(seed).integers(-6, 7, (12, HEIGHT, WIDTH)).astype(np.float64)


def hyper(seed: int = 0) -> Units:
    return np.random.default_rng(seed).integers(-3000, 3001, (8, HEIGHT // 4, WIDTH // 4)).astype(np.float64)


def traversal_of(model: Elic) -> LatentTraversal:
    return LatentTraversal(entropy_arrays(model), model.N, model.groups)


def integers(traversal: LatentTraversal, bands: tuple[tuple[int, int], ...] = WHOLE) -> tuple[Units, Units, Values]:
    """Scales, means and y_hat of the whole latent (12, H, W), for fixed symbols."""
    found = np.zeros((2, 12, HEIGHT, WIDTH))

    def code(part: LatentPart, scales: Units, means: Units) -> Units:
        channels = slice(4 * part.k, 4 * part.k + 4)
        for i, values in enumerate((scales, means)):
            put(found[i, channels, part.first : part.last], part.phase, 1024 * values)
        given = take(symbols()[channels, part.first : part.last], part.phase).reshape(4, -1)
        return given * 1024 + means

    y_hat = traversal.run(hyper(), code, bands)
    return found[0], found[1], y_hat


def test_parameters_equal_those_of_the_float_traversal(model: Elic) -> None:
    scales, means, y_hat = integers(traversal_of(model))
    positions = checkerboard(HEIGHT, WIDTH, torch.device("cpu"))
    there = torch.zeros(2, 12, HEIGHT * WIDTH)
    steps: Iterator[tuple[int, int]] = iter([(k, phase) for k in range(3) for phase in (0, 1)])

    def code(k: int, at: Tensor, scales_hat: Tensor, means_hat: Tensor) -> Tensor:
        expected, phase = next(steps)
        assert (k, at.tolist()) == (expected, positions[phase].tolist())
        there[0, 4 * k : 4 * k + 4, at], there[1, 4 * k : 4 * k + 4, at] = scales_hat[0], means_hat[0]
        given = torch.from_numpy(symbols()).float()[4 * k : 4 * k + 4]
        return given.flatten(1)[:, at].unsqueeze(0) + means_hat

    with torch.no_grad():
        y_hat_there = model.traverse_latent(torch.from_numpy(hyper() / 1024).float().unsqueeze(0), code)
    assert float(there[1].std()) > 0.1
    for here, other in ((scales, there[0]), (means, there[1]), (1024 * y_hat[0], y_hat_there[0].flatten(1))):
        np.testing.assert_allclose(here / 1024, other.numpy().reshape(12, HEIGHT, WIDTH), rtol=0, atol=0.01)


@pytest.mark.parametrize("rows", [2, 4, 6, 12])
def test_integers_do_not_depend_on_the_bands(model: Elic, rows: int) -> None:
    traversal = traversal_of(model)
    bands = tuple((first, min(first + rows, HEIGHT)) for first in range(0, HEIGHT, rows))
    for here, there in zip(integers(traversal, bands), integers(traversal), strict=True):
        assert np.array_equal(here, there)


@pytest.mark.parametrize("working_values", [1, 500, 4000])
def test_integers_do_not_depend_on_what_is_multiplied_at_once(
    model: Elic, working_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    traversal = traversal_of(model)
    expected = integers(traversal)
    monkeypatch.setattr(fixed_point, "WORKING_VALUES", working_values)
    for here, there in zip(integers(traversal), expected, strict=True):
        assert np.array_equal(here, there)
        assert np.array_equal(1024.0 * here, np.rint(1024.0 * here))


def test_integers_do_not_depend_on_the_precision_in_memory(model: Elic) -> None:
    for here, there in zip(
        integers(traversal_of(copy.deepcopy(model).double())), integers(traversal_of(model)), strict=True
    ):
        assert np.array_equal(here, there)


def test_parameters_depend_only_on_decoded_symbols(model: Elic) -> None:
    """Each part sees z, the groups before, and the rest of a group its anchors within two rows and columns."""
    traversal, changed_at = traversal_of(model), (5, 7, 3)  # channel 1 of group 1, a position of the anchors
    parts: list[tuple[LatentPart, Units]] = []

    def run(change: float) -> None:
        def code(part: LatentPart, scales: Units, means: Units) -> Units:
            parts.append((part, np.concatenate([scales, means])))
            given = symbols()
            given[changed_at] += change
            return take(given[4 * part.k : 4 * part.k + 4], part.phase).reshape(4, -1) * 1024

        traversal.run(hyper(), code, WHOLE)

    run(0.0)
    run(40.0)
    for (part, before), (_, after) in zip(parts[:6], parts[6:], strict=True):
        differs = (before != after).any(0).reshape(HEIGHT, WIDTH // 2)
        if (part.k, part.phase) <= (1, 0):
            assert not bool(differs.any()), part
        else:
            assert bool(differs.any()), part
        if (part.k, part.phase) == (1, 1):
            assert not bool(differs[:5].any()) and not bool(differs[10:].any())


def test_take_and_put_are_each_others_inverse() -> None:
    x = np.arange(2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4)
    anchors, rest = take(x, 0), take(x, 1)
    assert anchors[0].tolist()[:2] == [[0, 2], [5, 7]] and rest[0].tolist()[:2] == [[1, 3], [4, 6]]
    back = np.zeros_like(x)
    put(back, 0, anchors.reshape(2, -1).astype(np.float64) * 1024)
    put(back, 1, rest.reshape(2, -1).astype(np.float64) * 1024)
    assert np.array_equal(back, x)
