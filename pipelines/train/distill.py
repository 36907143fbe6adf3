"""The teacher of a distillation: found, checked against the settings, and its task."""

from __future__ import annotations

from typing import Any

from torch import nn

from hfd.config import DecoderConfig
from hfd.diffusion.decoder import ScoreDecoder, build_process, process_of
from hfd.diffusion.distillation import same_path
from hfd.diffusion.process import Process
from hfd.diffusion.weights import DecoderNet, read_decoder
from hfd.errors import ConfigError
from hfd.training.distillation import DistillSettings, DistillTask
from pipelines.context import Context
from pipelines.engine.base import Worker
from pipelines.train.job import optimiser_settings, parallelism
from pipelines.train.pairs import network_config
from pipelines.train.warm_start import WarmStart, warm_start


def find_teacher(context: Context) -> WarmStart:
    """Return the teacher's weights, none without ``decoder.distill``.

    Raises :class:`ConfigError` where its process is another, if its configuration is here before it is fetched.
    """
    config = context.config.decoder
    if config.distill is None:
        return WarmStart(None)
    teacher = warm_start(config.distill.teacher, "decoder", context)
    if teacher.registered is None:
        check_teacher(config, teacher)
    return teacher


def check_teacher(config: DecoderConfig, teacher: WarmStart) -> None:
    """Raise :class:`ConfigError` if the teacher's process is not that of the settings."""
    assert config.distill is not None and teacher.folder is not None
    wanted, stored = network_config(config)["process"], teacher.config
    if not same_path(build_process(wanted), process_of(stored, teacher.folder.uri)):
        found = stored["process"]
        raise ConfigError(
            f"decoder.distill.teacher: got {config.distill.teacher} with {_described(found)}, expected "
            f"{_described(wanted)} as in decoder.process. Set decoder.process to the teacher's"
        )


def _described(process: dict[str, Any]) -> str:
    """The kind of a process, with what else its path depends on."""
    details = {
        "diffusion": ("s",),
        "residual-diffusion": ("s", "residual_std"),
        "posterior-mean-flow": ("sigma_s",),
    }.get(process["kind"], ())
    listed = ", ".join(f"{detail}={process[detail]:g}" for detail in details)
    return f"{process['kind']} ({listed})" if listed else str(process["kind"])


def distill_task(
    config: DecoderConfig, net: DecoderNet, process: Process, start: WarmStart, teacher: WarmStart, worker: Worker
) -> DistillTask:
    """Return the task. The student begins as ``start``, or as the teacher if both have the same network and output."""
    assert config.distill is not None and teacher.folder is not None
    model = read_decoder(teacher.folder, worker.device)
    if start.folder is None and _same_network(net, process, model):
        teacher.into(net)
    return DistillTask(
        net.to(worker.device),
        process,
        optimiser_settings(config.train),
        DistillSettings(config.distill.teacher_steps, config.distill.steps),
        model,
        sigma_rels=config.ema.sigma_rels,
        neighbours_share=config.neighbours_share,
        parallelism=parallelism(config.train, worker),
    )


def _same_network(net: DecoderNet, process: Process, other: ScoreDecoder) -> bool:
    """Report whether the other's weights make this network predict the same."""
    own, found = ({name: value.shape for name, value in one.state_dict().items()} for one in (net, _module(other)))
    outputs = [[getattr(one, name, None) for name in ("predict", "residual_std")] for one in (process, other.process)]
    return type(net) is type(other.net) and own == found and outputs[0] == outputs[1]


def _module(decoder: ScoreDecoder) -> nn.Module:
    assert isinstance(decoder.net, nn.Module)  # as read_decoder reads it
    return decoder.net
