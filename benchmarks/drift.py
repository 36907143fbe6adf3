"""Count files that decode to other symbols or pictures under other engines, kernels, threads or precisions.

    python -m benchmarks.drift PHOTOS [--crops 1000] [--samples 100] [--peer-crops 1000] [--model desk-025]

Crops with sides of 128 to 256 pixels are compressed in one process, by torch and by ONNX Runtime, and decoded in a
process for each setting: the same networks, the same files. Where both engines write the same bytes there is one file.
A mismatch of symbols is a refused file, or a latent that differs in any bit from the encoder's. A mismatch of pictures
is an x_hat, or of the first crops a sample, that differs by more than one grey level from that of torch where the crop
was compressed; settings of other precisions than float32 compare symbols alone. The settings of torch decode
CompressAI's files too: a mismatch is a refused file, or a latent that differs by more than 0.01, which only other
symbols cause. Under ``float64`` all networks are converted to it, while the encoder used float32.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hfd.autoencoder.coding import LatentCoder
from hfd.codec.engines import Stage1, load_model
from hfd.codec.pixels import picture_to_values, to_grey_levels
from hfd.diffusion.decoder import ScoreDecoder
from hfd.diffusion.sampling import Sampling
from hfd.engine.base import Values
from hfd.errors import HfdError
from hfd.image.load import RgbArray, load_rgb
from hfd.io.model_folders import find_model
from hfd.kinds import EngineKind


@dataclass(frozen=True)
class Setting:
    """``environment``: what a process reads at its start to choose kernels; ``bfloat16``: autocast around decoding;
    ``optimisation``: ONNX Runtime's level for graphs, None: its default, all."""

    engine: EngineKind = "torch"
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    onednn: bool = True
    bfloat16: bool = False
    float64: bool = False
    optimisation: str | None = None

    @property
    def is_float32(self) -> bool:
        return not (self.bfloat16 or self.float64)


_DEFAULT = {"ATEN_CPU_CAPABILITY": "default"}
SETTINGS = {
    "torch": Setting(),
    "ATen default": Setting(environment=_DEFAULT),
    "ATen avx2": Setting(environment={"ATEN_CPU_CAPABILITY": "avx2"}),
    "ATen avx512": Setting(environment={"ATEN_CPU_CAPABILITY": "avx512"}),
    "oneDNN off": Setting(onednn=False),
    "ATen default, oneDNN off": Setting(environment=_DEFAULT, onednn=False),
    "torch, 2 threads": Setting(threads=2),
    "autocast bfloat16": Setting(bfloat16=True),
    "float64 transforms": Setting(float64=True),
    "ONNX Runtime": Setting("onnx"),
    "ONNX Runtime, 2 threads": Setting("onnx", threads=2),
    "graphs as written": Setting("onnx", optimisation="ORT_DISABLE_ALL"),
    "graphs optimised, basic": Setting("onnx", optimisation="ORT_ENABLE_BASIC"),
    "OpenBLAS Prescott": Setting("onnx", {"OPENBLAS_CORETYPE": "Prescott"}),
    "OpenBLAS Sandybridge": Setting("onnx", {"OPENBLAS_CORETYPE": "Sandybridge"}),
    "OpenBLAS Haswell": Setting("onnx", {"OPENBLAS_CORETYPE": "Haswell"}),
    "OpenBLAS SkylakeX": Setting("onnx", {"OPENBLAS_CORETYPE": "SkylakeX"}),
    "NumPy without AVX2": Setting("onnx", {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}),
}
_VARIABLES = {name for setting in SETTINGS.values() for name in setting.environment}
_SAMPLING = Sampling(steps=1)


@dataclass(frozen=True)
class File:
    """Of one crop, by one engine: CRC32 of y_hat; x_hat and, of some, a sample by torch, uint8 (H, W, 3)."""

    payload: bytes
    checksum: int
    y_hat: int
    x_hat: RgbArray
    sample: RgbArray | None


@dataclass(frozen=True)
class Crop:
    """``files``: one, or two where the engines' files differ; ``theirs``: CompressAI's strings, shape and y_hat."""

    files: tuple[File, ...]
    theirs: tuple[Any, Any, Any] | None


def cut(photos: Path, count: int) -> list[Values]:
    """Crops (1, 3, H, W) of photographs, one after another, at random places; sides 128, 192 or 256."""
    rng = np.random.default_rng(0)
    paths = sorted(path for path in photos.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    crops: list[Values] = []
    for i in range(20 * count):
        x = load_rgb(paths[i % len(paths)])
        height, width = (int(side) for side in rng.choice([128, 192, 256], 2))
        if x.shape[0] >= height and x.shape[1] >= width:
            top, left = int(rng.integers(x.shape[0] - height + 1)), int(rng.integers(x.shape[1] - width + 1))
            crops.append(picture_to_values(x[top : top + height, left : left + width]))
        if len(crops) == count:
            return crops
    raise SystemExit(f"{photos}: got {len(crops)} crops, expected {count}. Give a folder of larger photographs")


def x_hat_of(stage1: Stage1, y_hat: Values) -> RgbArray:
    return to_grey_levels(stage1.networks.synthesis(y_hat)[0])


def sample_of(decoder: ScoreDecoder, x_hat: RgbArray) -> RgbArray:
    """One step, from x_hat in grey levels, as a file is decoded."""
    values: Any = picture_to_values(x_hat)
    if decoder.device is not None:
        import torch

        values = torch.from_numpy(values)
    return to_grey_levels(np.asarray(decoder.sample(values, _SAMPLING, seeds=[0], precision="float32"))[0])


def encode(model: str, crops: list[Values], samples: int, peer_crops: int) -> list[Crop]:
    import torch

    from benchmarks.peer import peer_of

    folder = find_model(model)
    stage1, decoder = load_model(folder, "cpu", "torch")
    engines: list[Stage1] = [stage1, load_model(folder, "cpu", "onnx")[0]]
    coders = [LatentCoder(one.networks, one.entropy) for one in engines]
    peer, made = peer_of(stage1.model), []  # type: ignore[attr-defined]
    for i, x in enumerate(crops):
        files: dict[bytes, File] = {}
        for coder in coders:
            coded, y_hat = coder.encode(x)
            if coded.payload not in files:
                x_hat = x_hat_of(stage1, y_hat)
                sample = sample_of(decoder, x_hat) if decoder is not None and i < samples else None
                files[coded.payload] = File(coded.payload, coded.checksum, zlib.crc32(y_hat.tobytes()), x_hat, sample)
        theirs = None
        if i < peer_crops:
            with torch.no_grad():
                there = peer.compress(torch.from_numpy(x))
            theirs = (there["strings"], there["shape"], there["y_hat"])
        made.append(Crop(tuple(files.values()), theirs))
    return made


def decode_ours(coder: LatentCoder, file: File) -> Values | None:
    """The latent of a file, in the encoder's bits; None: another, or refused."""
    height, width, _ = file.x_hat.shape
    try:
        y_hat = coder.decode(file.payload, checksum=file.checksum, height=height, width=width)
    except HfdError:
        return None
    return y_hat if zlib.crc32(y_hat.tobytes()) == file.y_hat else None


def decode_theirs(peer: Any, crop: Crop) -> bool:
    assert crop.theirs is not None
    strings, shape, expected = crop.theirs
    try:
        y_hat = peer.latent_codec.decompress(strings, shape)["y_hat"]
    except (RuntimeError, ValueError, TypeError):
        return False
    return bool((y_hat.float() - expected).abs().max() < 0.01)


def counted(wrong: int, total: int) -> str:
    return f"{wrong} of {total}" if total else "-"


def compared(pairs: list[tuple[RgbArray, RgbArray]]) -> str:
    """Pictures that differ by more than one grey level, and the largest difference."""
    far = [int(np.abs(here.astype(np.int16) - there).max()) for here, there in pairs]
    return counted(sum(one > 1 for one in far), len(far)) + (f" (<= {max(far)})" if far else "")


def _prepare_torch(setting: Setting) -> tuple[AbstractContextManager[object], str | None]:
    """Set up torch; return the context for decoding, and a reason why this machine lacks the kernels."""
    import torch

    torch.set_num_threads(setting.threads)
    torch.backends.mkldnn.enabled = setting.onednn  # type: ignore[attr-defined]
    found = torch.backends.cpu.get_cpu_capability()
    wanted = setting.environment.get("ATEN_CPU_CAPABILITY", found)
    missing = None if found.lower() == wanted.lower() else "not on this machine"
    return torch.autocast("cpu", torch.bfloat16, enabled=setting.bfloat16), missing


def _prepare_onnx(setting: Setting) -> tuple[AbstractContextManager[object], str | None]:
    import onnxruntime

    os.environ["OMP_NUM_THREADS"] = str(setting.threads)
    if setting.optimisation is not None:
        make: Callable[[], Any] = onnxruntime.SessionOptions
        level = getattr(onnxruntime.GraphOptimizationLevel, setting.optimisation)

        def options() -> Any:
            made = make()
            made.graph_optimization_level = level
            return made

        onnxruntime.SessionOptions = options
    return nullcontext(), None


def run_setting(model: str, name: str, folder: Path) -> None:
    """In a process of its own: decode and print the counts."""
    setting = SETTINGS[name]
    warnings.simplefilter("ignore")
    context, missing = (_prepare_torch if setting.engine == "torch" else _prepare_onnx)(setting)
    if missing is not None:
        print(missing)
        return
    stage1, decoder = load_model(find_model(model), "cpu", setting.engine)
    coder = LatentCoder(stage1.networks, stage1.entropy)
    crops: list[Crop] = pickle.loads((folder / "crops.pickle").read_bytes())
    peer: Any = None
    if setting.engine == "torch":
        from benchmarks.peer import peer_of

        peer = peer_of(stage1.model)  # type: ignore[attr-defined]
        if setting.float64:
            peer.double()
    wrong = 0
    x_hats: list[tuple[RgbArray, RgbArray]] = []
    samples: list[tuple[RgbArray, RgbArray]] = []
    files = [file for crop in crops for file in crop.files]
    with context:
        for file in files:
            y_hat = decode_ours(coder, file)
            wrong += y_hat is None
            if y_hat is not None and setting.is_float32:
                x_hats.append((x_hat_of(stage1, y_hat), file.x_hat))
                if file.sample is not None and decoder is not None:
                    samples.append((sample_of(decoder, x_hats[-1][0]), file.sample))
        theirs = [decode_theirs(peer, crop) for crop in crops if peer is not None and crop.theirs is not None]
    counts = [
        counted(wrong, len(files)),
        compared(x_hats),
        compared(samples),
        counted(theirs.count(False), len(theirs)),
    ]
    print(*(f"{count:>20}" for count in counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--crops", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=100, help="of the crops, sampled too")
    parser.add_argument("--peer-crops", type=int, default=1000, help="of the crops, for CompressAI too")
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.setting:
        run_setting(arguments.model, arguments.setting, arguments.photos)
        return
    with tempfile.TemporaryDirectory() as folder:
        pictures = cut(arguments.photos, arguments.crops)
        crops = encode(arguments.model, pictures, arguments.samples, arguments.peer_crops)
        (Path(folder) / "crops.pickle").write_bytes(pickle.dumps(crops))
        both = sum(len(crop.files) == 1 for crop in crops)
        print(f"{len(crops)} crops; both engines write the same file of {both}")
        print(f"mismatches by the setting of decoding: {'symbols':>8} {'x_hat':>20} {'sample':>20} {'CompressAI':>20}")
        for name in SETTINGS:
            print(f"{name:<26}", row_of(arguments.model, name, folder), flush=True)


def row_of(model: str, name: str, folder: str) -> str:
    """The counts of a setting, or why there are none."""
    chosen = SETTINGS[name].environment
    kept = {key: value for key, value in os.environ.items() if key not in _VARIABLES}
    command = [sys.executable, "-m", "benchmarks.drift", folder, "--model", model, "--setting", name]
    environment = kept | chosen | {"OPENBLAS_VERBOSE": "2"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    wanted, cores = chosen.get("OPENBLAS_CORETYPE"), re.findall(r"^Core: (\S+)", ended.stderr, re.MULTILINE)
    if ended.returncode == -signal.SIGILL or (wanted is not None and wanted not in cores):
        return "not on this machine"
    if ended.returncode:
        raise SystemExit(f"{name}: exit code {ended.returncode}. {ended.stderr}")
    return ended.stdout.rstrip()


if __name__ == "__main__":
    main()
