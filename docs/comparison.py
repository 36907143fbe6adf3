"""Compare decoders on one stage 1, for equal CPU time: the paper's, ours, and those after DIRAC, HiFiC and PO-ELIC.

    python docs/comparison.py --photos PHOTOS --pictures PICTURES [--cpu-min 30] [KEY=VALUE...]

Every decoder has the network, the pictures and the autoencoder of the others, and as many steps as fit into
``--cpu-min`` minutes of processor time by the speed of a short training before; a decoder that takes two trainings has
half of them for each. Every result is from steps of ``hfd retrain`` with the preset ``desk-diffusion`` in the workspace
``runs/comparison``: finished ones are skipped, so that an interrupted comparison continues. Processor time is that of
all threads. Writes ``table.md`` into ``--out``. KEY=VALUE: settings of all decoders.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hfd.cli.progress import Terminal
from hfd.codec.codec import Codec
from hfd.config import Config
from hfd.config.presets import load_config
from hfd.diffusion.sampling import Sampling
from hfd.image.load import RgbArray, load_rgb
from hfd.io.storage import Folder
from hfd.metrics.table import METRICS
from hfd.report.compare.content import ComparedRow
from hfd.report.tables import TRAINED_ON_MARK, format_number
from pipelines.compare.finished import read_finished
from pipelines.compare.tables import RunRows
from pipelines.evaluate.measure import sampling_of
from pipelines.retrain import retrain
from pipelines.runs.step import Done
from pipelines.train.model_sizes import stage2_size

BEFORE = "(before)"
"""In settings: the model of the training before."""

UNET = "decoder.unet={patch: 4, channels: [64, 128], blocks: [1, 3]}"
DIFFUSION = "decoder.process={kind: diffusion, s: 0.5, residual_std: 0.1}"
RECTIFIED = "decoder.process={kind: rectified-flow, residual_std: 0.1}"
FLOW = "decoder.process={kind: posterior-mean-flow, sigma_s: 0.1, residual_std: 0.1}"
RESIDUAL = "decoder.process={kind: residual-diffusion, s: 1.0, residual_std: 0.1}"
WITHOUT_NOISE = "decoder.process={kind: posterior-mean-flow, sigma_s: 0.0}"
ONE_STEP = "decoder.process={kind: posterior-mean-flow, sigma_s: 0.1, residual_std: 1.0}"
DISTILL = f"decoder.distill={{teacher: {BEFORE}, teacher_steps: 16, steps: 1}}"
DISCRIMINATOR = "decoder.adversarial={discriminator: [32, 64, 128, 128]}"
HIFIC = "mse: 1.0, lpips: 0.026, wasserstein: 0.0"
PO_ELIC = "mse: 0.0, charbonnier: 0.2, lpips: 0.026, style: 0.01, wasserstein: 0.0"
OURS = "lpips: 0.015, wasserstein: 0.005"
PATCHES = "kind: patch, label: 1.0, weight: 0.0039, lr: 1e-4, channels: [32, 64, 128, 256]"
FEW = "decoder.steps=4"
"""Of samples that are measured after each training; the samplers of the table have their own steps."""
STOPS = (0.0, 0.25, 0.5, 1.0)

COLUMNS = ("bpp", "psnr", "ms_ssim", "lpips", "fd_effnet", "kd_effnet", "top_octave_energy")
TIMED_PICTURES, TIMES = 2, 3
X_HAT = "x_hat"


@dataclass(frozen=True)
class Kind:
    """A decoder: the settings of each of its trainings, which share the budget equally, and its samplers.

    ``finetunes``: the last training is the step finetune-decoder, after that of the one before.
    """

    name: str
    trainings: tuple[tuple[str, ...], ...]
    samplers: tuple[str, ...] = ("{}",)
    finetunes: bool = False


def with_critic(process: str, losses: str, critic: str) -> tuple[tuple[str, ...], ...]:
    """Return two perceptual trainings, the second with a critic, from where the first ends and at a lower rate."""
    second = f"decoder.perceptual={{{losses}, critic: {{{critic}}}}}"
    first = (process, f"decoder.perceptual={{{losses}}}")
    return first, (process, second, f"decoder.warm_start={BEFORE}", "decoder.train.lr=1e-4")


KINDS = (
    Kind("diffusion (HFD)", ((DIFFUSION, FEW),), ("{steps: 8}", "{steps: 50}")),
    Kind("rectified flow (HFD)", ((RECTIFIED, FEW),), ("{steps: 8}", "{steps: 50}")),
    Kind("posterior-mean flow (PMRF)", ((FLOW, FEW),), ("{steps: 1}", "{steps: 8}")),
    Kind("residual diffusion (DIRAC)", ((RESIDUAL, FEW),), tuple(f"{{steps: 20, stop: {stop}}}" for stop in STOPS)),
    Kind("distilled diffusion", ((DIFFUSION, FEW), (DIFFUSION, DISTILL))),
    Kind("GAN after HiFiC", with_critic(WITHOUT_NOISE, HIFIC, PATCHES)),
    Kind("GAN after PO-ELIC", with_critic(WITHOUT_NOISE, PO_ELIC, f"{PATCHES}, loss: hinge")),
    Kind("critic on features (ours)", with_critic(ONE_STEP, OURS, "kind: features")),
    Kind("flow and discriminator (ours)", ((FLOW, FEW), (DISCRIMINATOR,)), finetunes=True),
)
"""Weights are those of conf/compare-*.yaml and conf/desk.yaml, sizes those of two processor cores."""


@dataclass(frozen=True)
class Options:
    photos: str
    pictures: str
    model: str
    cpu_s: float
    calibration_steps: int
    overrides: tuple[str, ...]

    def config(self, *settings: str) -> Config:
        shared = (
            "name=comparison", "workspace=runs/comparison", f"data.uri={self.photos}", f"evaluate.data={self.pictures}",
            "cluster.kind=inline", f"autoencoder.warm_start={self.model}", "autoencoder.frozen=true",
            "decoder.neighbours_share=0", "evaluate.baselines=[]", UNET,
        )  # fmt: skip
        return load_config("desk-diffusion", [*shared, *self.overrides, *settings])


@dataclass(frozen=True)
class Trained:
    """``settings`` with their budgets; the model's folder; hours of processor time of all trainings."""

    settings: tuple[str, ...]
    model: str
    cpu_h: float


def train(kind: Kind, options: Options) -> Trained:
    """Run the trainings of a decoder."""
    before = Trained((), "", 0.0)
    for number, given in enumerate(kind.trainings):
        finetunes = kind.finetunes and number == len(kind.trainings) - 1
        step = "finetune-decoder" if finetunes else "train-decoder"
        settings = tuple(setting.replace(BEFORE, before.model) for setting in given)
        if finetunes:
            sizes = ("batch_size", "crop_px", "warmup_steps")
            train = options.config().decoder.train
            settings += tuple(f"decoder.adversarial.train.{name}={getattr(train, name)}" for name in sizes)
            settings = (*before.settings, *settings)
        budget = f"decoder.{'adversarial.' if finetunes else ''}train.budget"
        pace = cpu_s_per_step(options, (*settings, f"{budget}={options.calibration_steps} steps"), step)
        steps = max(8, math.floor(options.cpu_s / len(kind.trainings) / pace))
        settings = (*settings, f"{budget}={steps} steps")
        done = run_step(options.config(*settings), step)
        used_s = steps * cpu_s_per_step(options, settings, step)
        before = Trained(settings, done.folder.uri, before.cpu_h + used_s / 3600.0)
    return before


def cpu_s_per_step(options: Options, settings: tuple[str, ...], step: str) -> float:
    """Train, unless that is done, and return the seconds of processor time of a step."""
    done = run_step(options.config(*settings), step)
    pace = done.manifest.facts.get("cpu_s_per_step")
    if pace is None:
        raise SystemExit(
            f"{done.folder.uri}: got no times, since it was interrupted at its end. Delete it, and run again"
        )
    return float(pace)


def run_step(config: Config, last: str) -> Done:
    """Run the steps up to one; return the last."""
    names = ["prepare", "train-autoencoder", "reconstruct", "train-decoder", "finetune-decoder"]
    done = [retrain(config, Terminal(), only=name)[-1] for name in names[: names.index(last) + 1]]
    return done[-1]


def evaluate(kind: Kind, trained: Trained, options: Options) -> list[tuple[str, list[str]]]:
    """Evaluate a decoder; return its rows as (setting, cells), x_hat's first."""
    config = options.config(*trained.settings, f"evaluate.samplers=[{', '.join(kind.samplers)}]")
    finished = read_finished(retrain(config, Terminal())[-1].folder)
    images = list(dict.fromkeys(finished.table["image"].to_pylist()))
    codec = Codec.load(Folder(trained.model))
    assert codec.decoder is not None
    times = Times.of(codec, [load_rgb(Path(options.pictures) / name) for name in sorted(images)[:TIMED_PICTURES]])
    size = stage2_size(config.decoder)
    samplings = {one.label: one for one in (sampling_of(each, codec) for each in config.evaluate.samplers)}
    rows = []
    for row, _ in RunRows(finished).over(images):
        own = samplings.get(row.row.setting)
        cells = [*map(functools.partial(cell, row), COLUMNS), format_number(times.encode, 2)]
        if own is None:
            cells += [format_number(times.stage1, 2), "0", "0", "0"]
        else:
            evaluations = own.evaluations(codec.decoder.process)
            cells += [format_number(times.decode(own), 2), f"{size.parameters / 1e6:.2f}"]
            cells += [f"{size.kmac_per_px * evaluations:.0f}", f"{trained.cpu_h:.3f}"]
        rows.append((row.row.setting, cells))
    return rows


def cell(row: ComparedRow, name: str) -> str:
    """Format a value with its 95 % interval, and a mark if the decoder was trained on the metric's network."""
    metric = METRICS[name]
    text = format_number(row.row.values.get(name), metric.digits)
    if name in ("fd_effnet", "kd_effnet") and name in row.intervals:
        low, high = (format_number(end, metric.digits) for end in row.intervals[name])
        text += f" ({low} to {high})"
    return text + TRAINED_ON_MARK * (metric.network in row.row.trained_on)


@dataclass(frozen=True)
class Times:
    """Seconds of processor time per megapixel, of all threads: of encoding, of stage 1 and of sampling."""

    codec: Codec
    pictures: Sequence[RgbArray]
    encode: float
    stage1: float

    @classmethod
    def of(cls, codec: Codec, pictures: Sequence[RgbArray]) -> Times:
        data = [codec.compress(x).data for x in pictures]
        encode = per_megapixel([functools.partial(codec.compress, x) for x in pictures], pictures)
        stage1 = per_megapixel([functools.partial(codec.reconstruct, one) for one in data], pictures)
        return cls(codec, pictures, encode, stage1)

    def decode(self, sampling: Sampling) -> float:
        """Of stage 1 and stage 2. x_hat takes as long to sample as the picture itself, which stands for it."""
        calls = [functools.partial(self.codec.sample, x, sampling, seed=0) for x in self.pictures]
        return self.stage1 + per_megapixel(calls, self.pictures)


def per_megapixel(calls: Sequence[Callable[[], object]], pictures: Sequence[RgbArray]) -> float:
    """Return the seconds of processor time per megapixel: the least of some runs of each call, after a first."""
    total_s = 0.0
    for call in calls:
        call()
        seconds = []
        for _ in range(TIMES):
            started = time.process_time()
            call()
            seconds.append(time.process_time() - started)
        total_s += min(seconds)
    return total_s / (sum(x.shape[0] * x.shape[1] for x in pictures) / 1e6)


HEADINGS = (
    "decoder", "setting", *(METRICS[name].heading for name in COLUMNS), "enc CPU s/MP", "dec CPU s/MP",
    "stage 2 M parameters", "stage 2 kMAC/px", "training CPU h",
)  # fmt: skip


def table(results: dict[str, list[tuple[str, list[str]]]]) -> str:
    """Format one line for x_hat, which all share, and then each decoder's samples."""
    lines = [list(HEADINGS), ["---", "---", *["---:"] * (len(HEADINGS) - 2)]]
    shared = next(iter(results.values()))
    lines += [["x_hat", "", *cells] for setting, cells in shared if setting == X_HAT]
    lines += [[name, setting, *cells] for name, rows in results.items() for setting, cells in rows if setting != X_HAT]
    note = f"{TRAINED_ON_MARK}: the decoder was trained on the network of the metric. In brackets: 95 % intervals."
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + f"\n\n{note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="to train on")
    parser.add_argument("--pictures", required=True, help="folder to evaluate on")
    parser.add_argument("--model", default="desk-025", help="whose autoencoder all share")
    parser.add_argument("--cpu-min", type=float, default=30.0, help="minutes of processor time of each decoder")
    parser.add_argument("--calibration-steps", type=int, default=60, help="of the training that measures the speed")
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    options = Options(
        given.photos, given.pictures, given.model, 60.0 * given.cpu_min, given.calibration_steps, tuple(given.overrides)
    )
    results = {}
    for kind in KINDS:
        results[kind.name] = evaluate(kind, train(kind, options), options)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "table.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
