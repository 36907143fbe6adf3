"""The integer tables of a trained model."""

from __future__ import annotations

import torch

from hfd.autoencoder.library import EntropyBottleneck, GaussianConditional, get_scale_table
from hfd.autoencoder.model import Elic
from hfd.autoencoder.tables import EntropyTables, FrequencyTables
from hfd.autoencoder.traversal import LatentTraversal
from hfd.autoencoder.weights import entropy_arrays


@torch.no_grad()
def build_tables(model: Elic) -> EntropyTables:
    """Make the integer tables of a trained model, on the CPU in float32, without changing the model.

    Raises :class:`DataError` for a model that :class:`hfd.autoencoder.coding.LatentCoder` could not use.
    """
    LatentTraversal(entropy_arrays(model), model.N, model.groups)
    bottleneck = EntropyBottleneck(model.N)
    bottleneck.load_state_dict(
        {name: value for name, value in model.entropy_bottleneck.state_dict().items() if value.numel()},
        strict=False,
    )
    bottleneck.float().cpu()
    medians = bottleneck.quantiles[:, 0, 1].clone()
    bottleneck._update_quantiles()
    bottleneck.quantiles[:, 0, 1] = medians
    bottleneck.update(force=True)
    conditional = GaussianConditional(None)
    scales = get_scale_table()
    conditional.update_scale_table(scales, force=True)
    return EntropyTables(z=_tables_of(bottleneck), y=_tables_of(conditional), scales=scales.numpy())


def _tables_of(entropy_model: torch.nn.Module) -> FrequencyTables:
    cdf, lengths, offsets = (entropy_model.get_buffer(f"_{name}") for name in ("quantized_cdf", "cdf_length", "offset"))
    return FrequencyTables(
        cdf.int().contiguous().numpy(), lengths.reshape(-1).int().numpy(), offsets.reshape(-1).int().numpy()
    )
