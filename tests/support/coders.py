"""The coder of an autoencoder in memory, with tensors of torch on both sides, as the tests' oracles have them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfd.autoencoder.coding import CodedLatents, LatentCoder
from hfd.autoencoder.model import Elic
from hfd.autoencoder.rates import DEFAULT_RATE
from hfd.autoencoder.tables import EntropyTables
from hfd.autoencoder.weights import latent_coder


@dataclass(frozen=True)
class TensorCoder:
    coder: LatentCoder

    def encode(self, x: Tensor, rate: int = DEFAULT_RATE) -> tuple[CodedLatents, Tensor]:
        """With the estimate of the bits."""
        coded, y_hat = self.coder.encode(x.numpy(), rate, estimate=True)
        return coded, torch.from_numpy(y_hat)

    def decode(self, payload: bytes, *, checksum: int, height: int, width: int, rate: int = DEFAULT_RATE) -> Tensor:
        sides = {"height": height, "width": width}
        return torch.from_numpy(self.coder.decode(payload, checksum=checksum, **sides, rate=rate))


def tensor_coder(model: Elic, tables: EntropyTables) -> TensorCoder:
    return TensorCoder(latent_coder(model, tables))
