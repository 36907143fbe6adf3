"""Networks by ONNX Runtime, torch and, where it is installed, OpenVINO: a process each, for one picture.

    python -m benchmarks.engines [--model desk-025] [--size 512 768] [--threads 1] [--repeats 5]

Rows: g_a, h_a and g_s of the model, its stage-2 network, and the lean network of the preset `lean` with random weights.
Columns, in seconds of the processor, which a busy machine changes less than those of the clock: importing the engine,
loading the network, the first run (which touches new memory), the best later run; and the largest resident memory of
the process, MiB, which holds one network. float32 in all engines; OpenVINO reads the same graphs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = ("analysis", "hyper_analysis", "synthesis", "network", "lean")
Run = Callable[[], object]


def inputs_of(network: str, latent: int, height: int, width: int) -> dict[str, Any]:
    """Values as large as those of a picture, by the names of the graph's inputs."""
    generator = np.random.default_rng(0)
    picture, cells = (1, 3, height, width), (1, latent, height // 16, width // 16)
    if network == "analysis":
        return {"x": generator.random(picture, np.float32)}
    if network in ("hyper_analysis", "synthesis"):
        y = np.round(1.5 * generator.standard_normal(cells, np.float32))
        return {"y" if network == "hyper_analysis" else "y_hat": y}
    images = {name: 2.0 * generator.random(picture, np.float32) - 1.0 for name in ("x_in", "x_hat")}
    return {**images, "noise_level": np.full(1, 2.0, np.float32)}


def by_torch(folder: Path, network: str, inputs: dict[str, Any], threads: int) -> Run:
    import torch

    from hfd.autoencoder.transforms import transform
    from hfd.autoencoder.weights import read_autoencoder
    from hfd.diffusion.decoder import read_decoder
    from hfd.io.storage import Folder

    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(value) for value in inputs.values()]
    if network in ("network", "lean"):
        net = read_decoder(Folder(str(folder))).net
        images = [value.contiguous(memory_format=torch.channels_last) for value in tensors[:2]]
        return torch.no_grad()(lambda: net(*images, tensors[2]))
    model = read_autoencoder(Folder(str(folder))).model
    module = {"analysis": model.g_a, "hyper_analysis": model.h_a, "synthesis": model.g_s}[network]
    return lambda: transform(module, tensors[0])


def by_onnx(folder: Path, network: str, inputs: dict[str, Any], threads: int) -> Run:
    import hashlib

    from hfd.engine.onnx import OnnxStage1, OnnxStage2
    from hfd.io.storage import Folder

    weights = (folder / "weights.safetensors").read_bytes()
    fingerprint = hashlib.sha256((folder / "config.json").read_bytes() + weights).hexdigest()
    if network in ("network", "lean"):
        stage2 = OnnxStage2(Folder(str(folder)), weights, fingerprint, threads=threads)
        stage2(*(value[..., :64, :64] if value.ndim == 4 else value for value in inputs.values()))  # loads the graph
        return lambda: stage2(*inputs.values())
    stage1 = OnnxStage1(Folder(str(folder)), weights, fingerprint, threads=threads)
    ((_, value),) = inputs.items()
    call = getattr(stage1, network)
    side = 64 if network == "analysis" else 4
    call(value[..., :side, :side])  # loads the graph
    return lambda: call(value)


def by_openvino(folder: Path, network: str, inputs: dict[str, Any], threads: int) -> Run:
    import openvino

    name = "network" if network == "lean" else network
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    compiled = openvino.Core().compile_model(str(folder / f"{name}.onnx"), "CPU", options)
    request = compiled.create_infer_request()
    return lambda: request.infer(inputs, share_inputs=True)


ENGINES = {"onnx": ("onnxruntime", by_onnx), "torch": ("torch", by_torch), "openvino": ("openvino", by_openvino)}


def measure(engine: str, network: str, folder: Path, latent: int, size: list[int], threads: int, repeats: int) -> None:
    """Print the figures of this process as JSON."""
    import importlib

    inputs = inputs_of(network, latent, *size)
    module, prepare = ENGINES[engine]
    marks = [time.process_time()]
    importlib.import_module(module)
    marks.append(time.process_time())
    run = prepare(folder, network, inputs, threads)
    marks.append(time.process_time())
    for _ in range(repeats + 1):
        run()
        marks.append(time.process_time())
    imported, loaded, first, *later = np.diff(marks).tolist()
    # Of this program alone: ru_maxrss would hold the parent's at the start.
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    print(json.dumps([imported, loaded, first, min(later), int(peak) // 1024]))


def lean_decoder(model: Path, where: Path) -> None:
    """A decoder with the network of the preset `lean`, whose weights are random, and its graph."""
    import torch
    from torch import nn

    from hfd.codec.export import add_graphs
    from hfd.diffusion.decoder import write_decoder
    from hfd.diffusion.lean import LeanNet
    from hfd.io.storage import Folder

    torch.manual_seed(0)
    net = LeanNet()
    for value in net.parameters():
        if not value.any():
            nn.init.normal_(value, std=0.05)
    config = json.loads((model / "decoder/config.json").read_bytes())
    lean = {"channels": list(net.channels), "blocks": list(net.blocks), "tail": net.tail}
    settings = {key: value for key, value in config.items() if key not in ("unet", "lean", "format")} | {"lean": lean}
    folder = Folder(str(where))
    write_decoder(folder / "decoder", {name: value.half() for name, value in net.named_parameters()}, settings)
    add_graphs(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="desk-025")
    parser.add_argument("--size", type=int, nargs=2, default=[512, 768], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs=3, metavar=("ENGINE", "NETWORK", "FOLDER"), help="in this process, as JSON")
    arguments = parser.parse_args()
    from hfd.io.model_folders import find_model

    model = find_model(arguments.model).path
    latent = int(json.loads((model / "autoencoder/config.json").read_bytes())["M"])
    if arguments.only:
        engine, network, folder = arguments.only
        measure(engine, network, Path(folder), latent, arguments.size, arguments.threads, arguments.repeats)
        return
    print(f"{'network':15} {'engine':9} {'import':>7} {'load':>6} {'first':>6} {'later':>6} {'MiB':>5}")
    with tempfile.TemporaryDirectory() as temporary:
        lean_decoder(model, Path(temporary))
        for network in NETWORKS:
            part = "decoder" if network in ("network", "lean") else "autoencoder"
            folder = (Path(temporary) if network == "lean" else model) / part
            for engine, (module, _) in ENGINES.items():
                if find_spec(module) is None:
                    continue
                command = [sys.executable, "-m", "benchmarks.engines", "--only", engine, network, str(folder)]
                command += ["--model", arguments.model, "--threads", str(arguments.threads)]
                command += ["--repeats", str(arguments.repeats), "--size", *map(str, arguments.size)]
                ended = subprocess.run(command, capture_output=True, text=True, check=True)
                imported, loaded, first, later, peak = json.loads(ended.stdout.splitlines()[-1])
                print(
                    f"{network:15} {engine:9} {imported:7.2f} {loaded:6.2f} {first:6.3f} {later:6.3f} {peak:5}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
