"""Pictures for the entropy coder, and streams that are broken."""

from __future__ import annotations

import random

import torch
from torch import Tensor


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """One of the ways in which a stream breaks; never the stream itself."""
    kind = rng.randrange(6)
    if kind == 0:
        broken = bytearray(payload)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] ^= rng.randint(1, 255)
        return bytes(broken) if bytes(broken) != payload else b""
    if kind == 1:
        return payload[: rng.randrange(len(payload) // 4) * 4]
    if kind == 2:
        return payload[: rng.randrange(len(payload))]
    if kind == 3:
        return payload[4 * rng.randint(1, 4) :]
    if kind == 4:
        return rng.randbytes(4 * rng.randint(1, 300))
    return bytes([rng.choice([0x00, 0x0F, 0xF0, 0xFF])]) * (4 * rng.randint(1, 300))
