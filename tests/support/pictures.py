"""Pictures that tests make themselves, and a colour profile far from sRGB."""

from __future__ import annotations

import numpy as np
from PIL import ImageCms


def wide_profile() -> bytes:
    """A profile of RGB whose channels are swapped in effect: far from sRGB. Made from sRGB's own bytes."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert b"rXYZ" in data and b"gXYZ" in data
    return data.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


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
