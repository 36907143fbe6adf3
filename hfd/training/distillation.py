"""Progressive distillation of a many-step teacher into a sampler of few deterministic steps (beyond the paper of HFD).

Rounds within one training, of equal length: in each, one step of the student learns two of its teacher's, and at its
end the student's average becomes the teacher of the next round, with half the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.distillation import grid_times, steps_of, truncated_snr, two_step_target
from hfd.diffusion.neighbours import known_pixels
from hfd.diffusion.process import Process, predict, stratified_uniform
from hfd.diffusion.weights import DecoderNet
from hfd.errors import TrainingError
from hfd.precision import autocast
from hfd.training.randomness import SampleRandomness
from hfd.training.strategy import Parallelism
from hfd.training.tasks import DecoderTask, OptimiserSettings


@dataclass(frozen=True)
class DistillSettings:
    """``teacher_steps``: of the first teacher's sampler; ``steps``: of the last student's, a power of two fewer."""

    teacher_steps: int
    steps: int

    @property
    def rounds(self) -> int:
        """Number of halvings."""
        return (self.teacher_steps // self.steps).bit_length() - 1

    def round_at(self, progress: float) -> int:
        """The round, from 0, at a ``progress`` in [0, 1] of the training."""
        # A little more than the product: rounding must not put a round off by a step.
        return min(int(progress * self.rounds + 1e-9), self.rounds - 1)

    def steps_in(self, number: int) -> int:
        """Steps of the student's sampler in a round."""
        return self.teacher_steps >> (number + 1)


class DistillTask(DecoderTask):
    """Trains ``net`` to reach with one step of its sampler what ``teacher`` reaches with two.

    The rounds follow the progress of the training, and the state holds the teacher of the present one. ``teacher``
    belongs to the first; its process has the path of ``process``. Every worker holds the whole networks, for any
    strategy. Otherwise as :class:`DecoderTask`.
    """

    def __init__(
        self,
        net: DecoderNet,
        process: Process,
        settings: OptimiserSettings,
        distill: DistillSettings,
        teacher: ScoreDecoder,
        *,
        sigma_rels: Sequence[float],
        neighbours_share: float = 0.0,
        parallelism: Parallelism = Parallelism(),
    ) -> None:
        # Copied before the training prepares the network, which may replace its methods.
        self._copy = deepcopy(net).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        super().__init__(
            net,
            process,
            settings,
            sigma_rels=sigma_rels,
            neighbours_share=neighbours_share,
            parallelism=replace(parallelism, strategy="ddp"),
        )
        self._distill, self.teacher, self._round = distill, teacher, 0

    @property
    def num_steps(self) -> int:
        """Steps of the student's sampler in this round."""
        return self._distill.steps_in(self._round)

    def losses(self, batch: Tensor, *, progress: float, randomness: SampleRandomness) -> dict[str, Tensor]:
        due = self._distill.round_at(progress)
        if due > self._round + 1:
            raise TrainingError(self._too_short())
        if due > self._round:
            names = [name for name, _ in self.net.named_parameters()]
            self._teach(due, dict(zip(names, self.ema.averages[min(self.ema.averages)], strict=True)))
        found = super().losses(batch, progress=progress, randomness=randomness)
        return {**found, "sampler_steps": torch.tensor(float(self.num_steps), device=batch.device)}

    def _teach(self, number: int, weights: Mapping[str, Tensor]) -> None:
        """Begin a round whose teacher has these weights of the student's network."""
        with torch.no_grad():
            for name, parameter in self._copy.named_parameters():
                parameter.copy_(weights[name])
        self._round, self.teacher = number, ScoreDecoder(self._copy, self.process, {}, "")

    def times(self, batch: int, generator: torch.Generator) -> Tensor:
        return grid_times(stratified_uniform(batch, generator), self.num_steps)

    def errors(
        self, x0: Tensor, x_hat: Tensor, eps: Tensor, t: Tensor, masks: Tensor | None = None, *, alone: bool = False
    ) -> Tensor:
        """The error of each sample's x0 (B,), weighted by the truncated SNR; ``t``: times of the student's grid."""
        a, b = (value.reshape(-1, 1, 1, 1) for value in self.process.path(t))
        pictures = [a * x0 + b * self.process.start(x_hat, eps), x_hat]
        pictures += [] if masks is None else [known_pixels(x0, masks)]
        x_t, cond, *rest = (picture.contiguous(memory_format=torch.channels_last) for picture in pictures)
        known, precision = (rest[0] if rest else None), self._settings.precision

        def denoise(x: Tensor, at: Tensor) -> Tensor:
            found: Tensor = self.teacher.denoise(x, at, cond, known=known, precision=precision)
            return found

        with torch.no_grad():
            target = two_step_target(self.process, denoise, x_t, *steps_of(t, self.num_steps))
        with autocast(x0.device, precision):
            output = predict(self.process, self.net if alone else self._module, x_t, cond, t, known)
        errors = (self.process.x0_pred(x_t, output, t) - target).square().mean(dim=(1, 2, 3))
        weighted: Tensor = truncated_snr(self.process, t) * errors
        return weighted

    def require_last_round(self) -> None:
        """Raise :class:`TrainingError` if the training ended before its last round."""
        if self._round != self._distill.rounds - 1:
            raise TrainingError(self._too_short())

    def _too_short(self) -> str:
        return (
            f"decoder.train.budget: got too few steps for {self._distill.rounds} rounds of distillation. "
            "Give a longer budget, or a smaller decoder.distill.teacher_steps"
        )

    def state(self) -> dict[str, Any]:
        own = self._copy.state_dict() if self._round else {}
        return {**super().state(), "round": self._round, "teacher": own}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        if state["round"]:
            self._teach(int(state["round"]), state["teacher"])
