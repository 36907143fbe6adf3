"""Shared fixtures: photographs made by the tests themselves, tiny networks, and where shared data may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """Results and timings of tests do not depend on the machine's cores."""
    torch.set_num_threads(1)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture like a photograph, uint8 (H, W, 3): 1/f noise, a few edges, correlated channels."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    amplitude = 1.0 / np.maximum(np.hypot(fy, fx), 1.0 / max(height, width))
    planes = []
    for _ in range(2):
        phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
        plane = np.fft.irfft2(amplitude * phase, s=(height, width))
        planes.append((plane - plane.mean()) / plane.std())
    luma, tint = planes
    left, top = int(width * rng.uniform(0.2, 0.6)), int(height * rng.uniform(0.2, 0.6))
    luma[top : top + height // 4, left : left + width // 4] += 1.5
    pixels = 128 + 40 * luma[..., None] + 15 * tint[..., None] * np.array([1.0, 0.0, -1.0])
    return pixels.clip(0, 255).round().astype(np.uint8)


@pytest.fixture
def kodak() -> Path:
    """The Kodak images, where they are at hand."""
    folder = SHARED_DATA / "kodak"
    if not folder.is_dir():
        pytest.skip(f"needs the Kodak images in {folder}")
    return folder
