"""The terms of the perceptual losses of a sample, and what a critic sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from hfd.perceptual.charbonnier import charbonnier
from hfd.perceptual.critic import FeatureCritic
from hfd.perceptual.lpips import lpips_of_features
from hfd.perceptual.networks import Features
from hfd.perceptual.patch_critic import PatchCritic
from hfd.perceptual.style import style_distance
from hfd.perceptual.wasserstein import wasserstein_distortion
from hfd.perceptual.weights import read_frozen
from hfd.precision import autocast
from hfd.training.critic import CriticSettings

TERMS = ("mse", "charbonnier", "wasserstein", "style", "lpips")
"""Names of the terms, which are also those of their weights."""


@dataclass(frozen=True)
class PerceptualSettings:
    """``steps`` of the sampler; weights of the mean squared error and the Charbonnier distance of pictures in [-1, 1],
    of LPIPS (AlexNet), and of the Wasserstein distortion and the style distance (VGG16); ``critic``: None for none."""

    steps: int
    mse: float
    lpips: float
    wasserstein: float
    critic: CriticSettings | None = None
    charbonnier: float = 0.0
    style: float = 0.0

    @property
    def needs_vgg16(self) -> bool:
        on_features = self.critic is not None and self.critic.kind == "features"
        return bool(self.wasserstein or self.style or on_features)


@dataclass(frozen=True)
class Seen:
    """A sample or a real picture (B, 3, H, W) in about [-1, 1], and VGG16's features of it, empty without need."""

    picture: Tensor
    features: Features

    def by(self, critic: FeatureCritic | PatchCritic) -> Tensor | Features:
        """The input of a critic."""
        return self.features if isinstance(critic, FeatureCritic) else self.picture


class PerceptualLosses:
    """The losses of samples, with frozen networks on ``device``.

    Raises :class:`DataError` if the networks' weights are missing or damaged.
    """

    def __init__(self, settings: PerceptualSettings, device: torch.device, precision: str) -> None:
        self._settings, self._precision = settings, precision
        alexnet, linear = read_frozen("alexnet")
        self._alexnet, self._linear = deepcopy(alexnet).to(device), tuple(weight.to(device) for weight in linear)
        self._vgg16 = deepcopy(read_frozen("vgg16")[0]).to(device)

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Channels of the taps of VGG16."""
        return self._vgg16.widths

    def terms(self, sample: Tensor, x0: Tensor) -> tuple[dict[str, Tensor], Seen, Seen]:
        """Return each unweighted loss, (B,), and what a critic sees of the sample and of x0.

        Those of weight 0 are not computed, apart from the mean squared error, which is always reported.
        """
        settings = self._settings
        terms = {"mse": (sample - x0).square().mean(dim=(1, 2, 3))}
        if settings.charbonnier:
            terms["charbonnier"] = charbonnier(sample, x0)
        sampled, real = self.seen(sample), self.seen(x0, frozen=True)
        if settings.wasserstein:
            terms["wasserstein"] = wasserstein_distortion(sampled.features, real.features)
        if settings.style:
            terms["style"] = style_distance(sampled.features, real.features)
        if settings.lpips:
            with autocast(x0.device, self._precision):
                with torch.no_grad():
                    wanted = self._alexnet(x0)
                found = self._alexnet(sample)
            terms["lpips"] = lpips_of_features(found, wanted, self._linear)
        return terms, sampled, real

    def seen(self, picture: Tensor, *, frozen: bool = False) -> Seen:
        """``frozen``: without gradients."""
        if not self._settings.needs_vgg16:
            return Seen(picture, [])
        with autocast(picture.device, self._precision), torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return Seen(picture, self._vgg16(picture))

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms among ``terms``."""
        weights = {name: getattr(self._settings, name) for name in TERMS}
        return torch.stack([weights[name] * term for name, term in terms.items() if name in weights]).sum(dim=0)
