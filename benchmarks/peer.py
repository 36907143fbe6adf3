"""CompressAI's ELIC with the weights of one of our models, for benchmarks that compare with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfd.autoencoder.model import Elic

if TYPE_CHECKING:
    from compressai.models.sensetime import Elic2022Official


def peer_of(model: Elic) -> Elic2022Official:
    """Compose the same networks as CompressAI's model, which quantises and codes itself. Shares the modules."""
    from compressai.models.sensetime import Elic2022Official  # after hfd, which imports it with its warnings off

    peer = Elic2022Official(N=model.N, M=model.M, groups=list(model.groups)).eval()
    peer.g_a, peer.g_s = model.g_a, model.g_s
    hyper, latent = peer.latent_codec["hyper"], peer.latent_codec["y"]
    hyper.h_a, hyper.h_s = model.h_a, model.h_s
    learned = {name: value for name, value in model.entropy_bottleneck.state_dict().items() if value.numel()}
    hyper.entropy_bottleneck.load_state_dict(learned, strict=False)
    for k in range(len(model.groups)):
        codec = latent.latent_codec[f"y{k}"]
        codec.context_prediction, codec.entropy_parameters = model.g_sp[k], model.param_aggregation[k]
        if k > 0:
            latent.channel_context[f"y{k}"] = model.g_ch[k - 1]
    peer.update(force=True)
    return peer
