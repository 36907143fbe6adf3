"""Compare decoders on one stage 1, for equal CPU time: the paper's, ours, and those after DIRAC, HiFiC and PO-ELIC.

    python docs/comparison.py --photos PHOTOS [--pictures FOLDER] [--held-out] [--cpu-min 30] [KEY=VALUE...]

Every decoder has the network, the pictures and the autoencoder of the others, and as many steps as fit into
``--cpu-min`` minutes of processor time by the speed of a short training before; a decoder that takes two trainings has
half of them for each. Every result is from steps of ``hfd retrain`` with the preset ``desk-diffusion`` in the workspace
``runs/comparison``: finished ones are skipped, so that an interrupted comparison continues. All are trained before the
first is evaluated. JPEG, WebP, AVIF and, where its programs are installed, JPEG XL follow at the sizes of our files.
Processor time is that of all threads. Writes a table for each folder of pictures into ``--out``, and with
``--held-out`` one for the photographs that prepare held out: the middle of each, at most 640 x 512 px. KEY=VALUE:
settings of all decoders.
"""

from __future__ import annotations

import argparse
import functools
import io
import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from hfd.baselines.external import External
from hfd.baselines.pillow_codecs import Baseline, available_baselines, bracket_rate
from hfd.cli.progress import Terminal
from hfd.codec.codec import Codec
from hfd.config import Config
from hfd.config.presets import load_config
from hfd.diffusion.sampling import Sampling
from hfd.errors import HfdError
from hfd.image.load import RgbArray, load_rgb
from hfd.io.storage import Folder
from hfd.metrics.table import METRICS
from hfd.report.compare.content import ComparedRow
from hfd.report.tables import TRAINED_ON_MARK, format_number
from pipelines.compare.finished import Finished, read_finished
from pipelines.compare.tables import RunRows
from pipelines.evaluate.measure import sampling_of
from pipelines.evaluate.systems import programs_of
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

COLUMNS = ("bpp", "psnr", "ms_ssim", "lpips", "dists", "fd_effnet", "kd_effnet", "top_octave_energy")
CODECS = (
    "evaluate.baselines=[jpeg, webp, avif]",
    "evaluate.external=[jpegxl]",
    "evaluate.baseline_rates=[1]",
    "evaluate.samplers=[{}]",
)
TIMED_PICTURES, TIMES, LONG_S = 2, 4, 2.0
HELD_OUT, MIDDLE = "held-out", (512, 640)
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


IN_ONE_STEP = Kind("critic on features (ours)", with_critic(ONE_STEP, OURS, "kind: features"))
KINDS = (
    Kind("diffusion (HFD)", ((DIFFUSION, FEW),), ("{steps: 8}", "{steps: 50}")),
    Kind("rectified flow (HFD)", ((RECTIFIED, FEW),), ("{steps: 8}", "{steps: 50}")),
    Kind("posterior-mean flow (PMRF)", ((FLOW, FEW),), ("{steps: 1}", "{steps: 8}")),
    Kind("residual diffusion (DIRAC)", ((RESIDUAL, FEW),), tuple(f"{{steps: 20, stop: {stop}}}" for stop in STOPS)),
    Kind("distilled diffusion", ((DIFFUSION, FEW), (DIFFUSION, DISTILL))),
    Kind("GAN after HiFiC", with_critic(WITHOUT_NOISE, HIFIC, PATCHES)),
    Kind("GAN after PO-ELIC", with_critic(WITHOUT_NOISE, PO_ELIC, f"{PATCHES}, loss: hinge")),
    IN_ONE_STEP,
    Kind("flow and discriminator (ours)", ((FLOW, FEW), (DISCRIMINATOR,)), finetunes=True),
)
"""Weights are those of conf/compare-*.yaml and conf/desk.yaml, sizes those of two processor cores."""


@dataclass(frozen=True)
class Options:
    photos: str
    model: str
    cpu_s: float
    calibration_steps: int
    overrides: tuple[str, ...]

    def config(self, *settings: str) -> Config:
        shared = (
            "name=comparison", "workspace=runs/comparison", f"data.uri={self.photos}", "cluster.kind=inline",
            f"autoencoder.warm_start={self.model}", "autoencoder.frozen=true",
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


def cut_held_out(options: Options, folder: Path) -> None:
    """Write the middle of each photograph of the validation split, of which training saw nothing, as PNG."""
    prepared = retrain(options.config(), Terminal(), only="prepare")[-1]
    table = pq.read_table(io.BytesIO(prepared.folder.read("photos.parquet")), columns=["photo", "split"]).to_pylist()
    folder.mkdir(parents=True, exist_ok=True)
    for name in (Path(row["photo"]) for row in table if row["split"] == "validation"):
        x = load_rgb(Path(options.photos) / name)
        top, left = (max(0, (side - most) // 2) for side, most in zip(x.shape[:2], MIDDLE, strict=True))
        Image.fromarray(x[top : top + MIDDLE[0], left : left + MIDDLE[1]]).save(folder / f"{name.stem}.png")


@dataclass(frozen=True)
class Line:
    """A line of the table. ``values``: formatted, by column; "-" where nothing was measured. ``costs``: the others."""

    system: str
    setting: str
    values: dict[str, str]
    costs: tuple[str, ...]


def evaluate(kind: Kind, trained: Trained, options: Options, pictures: str) -> list[Line]:
    """Evaluate a decoder on a folder of pictures; return x_hat's line and one for each sampler."""
    samplers = f"evaluate.samplers=[{', '.join(kind.samplers)}]"
    config = options.config(*trained.settings, f"evaluate.data={pictures}", samplers)
    codec = Codec.load(Folder(trained.model))
    assert codec.decoder is not None
    finished, shown = finish(config)
    times = Times.of(codec, timed_pictures(finished, pictures))
    size = stage2_size(config.decoder)
    samplings = {one.label: one for one in (sampling_of(each, codec) for each in config.evaluate.samplers)}
    lines = []
    for row in shown:
        own = samplings.get(row.row.setting)
        if own is None:
            lines.append(Line(X_HAT, "", values_of(row), (seconds(times.encode), seconds(times.stage1), "0", "0", "0")))
            continue
        kmac = size.kmac_per_px * own.evaluations(codec.decoder.process)
        costs = (seconds(times.encode), seconds(times.decode(own)), f"{size.parameters / 1e6:.2f}", f"{kmac:.0f}")
        lines.append(Line(kind.name, row.row.setting, values_of(row), (*costs, f"{trained.cpu_h:.3f}")))
    return lines


def evaluate_codecs(trained: Trained, options: Options, pictures: str) -> list[Line]:
    """Measure other codecs at the sizes of our files, which are the same for all decoders."""
    config = options.config(*trained.settings, f"evaluate.data={pictures}", *CODECS)
    finished, shown = finish(config)
    codec = Codec.load(Folder(trained.model))
    timed = [(x, len(codec.compress(x).data)) for x in timed_pictures(finished, pictures)]
    programs = {entry.name: entry for entry in programs_of(config.evaluate.external)}
    ready = {baseline.name: baseline for baseline in available_baselines()[0]}
    lines = []
    for row in shown:
        name = row.row.system
        if name not in {*programs, *ready} or row.row.num_images == 0:
            continue
        costs = [
            costs_of(ready.get(name) or External(programs[name], (x.shape[0], x.shape[1])), x, num_bytes)
            for x, num_bytes in timed
        ]
        megapixels = sum(x.size / 3e6 for x, _ in timed)
        encode, decode = (sum(each) / megapixels for each in zip(*costs, strict=True))
        lines.append(
            Line(row.curve, row.row.setting, values_of(row), (seconds(encode), seconds(decode), "-", "-", "-"))
        )
    return lines


def finish(config: Config) -> tuple[Finished, list[ComparedRow]]:
    """Evaluate, unless that is done; return the rows over all pictures."""
    finished = read_finished(retrain(config, Terminal())[-1].folder)
    images = list(dict.fromkeys(finished.table["image"].to_pylist()))
    return finished, [row for row, _ in RunRows(finished).over(images)]


def timed_pictures(finished: Finished, pictures: str) -> list[RgbArray]:
    names = sorted(set(finished.table["image"].to_pylist()))
    return [load_rgb(Path(pictures) / name) for name in names[:TIMED_PICTURES]]


def values_of(row: ComparedRow) -> dict[str, str]:
    """Format values with 95 % intervals of distances, and a mark if the decoder was trained on the metric's network."""
    texts = {}
    for metric in (METRICS[name] for name in COLUMNS):
        value = row.row.values.get(metric.name)
        if value is None:
            texts[metric.name] = "-"
            continue
        text = format_number(value, metric.digits)
        if metric.name in ("fd_effnet", "kd_effnet") and metric.name in row.intervals:
            low, high = (format_number(end, metric.digits) for end in row.intervals[metric.name])
            text += f" ({low} to {high})"
        texts[metric.name] = text + TRAINED_ON_MARK * (metric.network in row.row.trained_on)
    return texts


def seconds(value: float) -> str:
    return format_number(value, 2)


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
    """Return the seconds of processor time per megapixel."""
    return sum(cpu_s(call) for call in calls) / (sum(x.shape[0] * x.shape[1] for x in pictures) / 1e6)


def costs_of(codec: Baseline, x: RgbArray, num_bytes: int) -> tuple[float, float]:
    """Return the seconds of processor time to encode and to decode a picture near a file size."""
    encoded = next(one for one in bracket_rate(codec, x, num_bytes) if one is not None)
    return cpu_s(lambda: codec.encode(x, encoded.quality)), cpu_s(lambda: codec.decode(encoded.data))


def cpu_s(call: Callable[[], object]) -> float:
    """Return the least processor time of up to `TIMES` calls, in seconds, programs that they ran included.

    The first call, which prepares networks, counts only if it is long.
    """
    found: list[float] = []
    while len(found) < TIMES and sum(found) < LONG_S:
        before = used_s()
        call()
        found.append(used_s() - before)
    return min(found)


def used_s() -> float:
    """Of this process and of its children that have ended; `os.times` counts in hundredths of a second."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


COSTS = ("enc CPU s/MP", "dec CPU s/MP", "stage 2 M parameters", "stage 2 kMAC/px", "training CPU h")


def table(lines: Sequence[Line]) -> str:
    """Format x_hat, which all share, once, then the others. Columns without any value are left out."""
    columns = [name for name in COLUMNS if any(line.values.get(name, "-") != "-" for line in lines)]
    headings = ["system", "setting", *(METRICS[name].heading for name in columns), *COSTS]
    kept = [line for number, line in enumerate(lines) if line.system != X_HAT or number == 0]
    cells = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    cells += [[one.system, one.setting, *(one.values[name] for name in columns), *one.costs] for one in kept]
    note = f"{TRAINED_ON_MARK}: the decoder was trained on the network of the metric. In brackets: 95 % intervals."
    return "\n".join("| " + " | ".join(row) + " |" for row in cells) + f"\n\n{note}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="to train on")
    parser.add_argument("--pictures", default=[], action="append", help="folder to evaluate on; may be given again")
    parser.add_argument("--held-out", action="store_true", help="evaluate on held-out photographs, too")
    parser.add_argument("--model", default="desk-025", help="whose autoencoder all share")
    parser.add_argument("--cpu-min", type=float, default=30.0, help="minutes of processor time of each decoder")
    parser.add_argument("--calibration-steps", type=int, default=60, help="of the training that measures the speed")
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    folders = [Path(folder) for folder in given.pictures] + [given.out / HELD_OUT] * given.held_out
    names = [folder.resolve().name for folder in folders]
    if not folders or len(set(names)) < len(names):
        raise SystemExit(f"--pictures: got {', '.join(names) or 'none'}, expected folders of different names")
    options = Options(given.photos, given.model, 60.0 * given.cpu_min, given.calibration_steps, tuple(given.overrides))
    if given.held_out:
        cut_held_out(options, given.out / HELD_OUT)
    trained = {kind: train(kind, options) for kind in KINDS}
    given.out.mkdir(parents=True, exist_ok=True)
    for name, folder in zip(names, folders, strict=True):
        lines = [line for kind, own in trained.items() for line in evaluate(kind, own, options, str(folder))]
        lines += evaluate_codecs(trained[IN_ONE_STEP], options, str(folder))
        (given.out / f"{name}.md").write_text(table(lines))
        print(f"{name}\n\n{table(lines)}")


if __name__ == "__main__":
    try:
        main()
    except HfdError as error:
        raise SystemExit(f"comparison: {error}") from None
