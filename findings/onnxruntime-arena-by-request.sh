#!/usr/bin/env bash
# onnxruntime 1.32.0 (CPU): a shared arena with arena_extend_strategy 1, which extends it by the requested size and not
# by powers of two, needs half as much memory again for a network that upsamples in four stages. Expected: that it needs
# less, as its name says. Its regions hold one value each, and the larger values of later stages find no place in them.
# Seen on 2026-11-30. Exits with 1 once this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==1.32.0" "onnx==1.23.2" "numpy<2"
cat > "$folder/arena.py" <<'PY'
import resource
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE, STAGES = 64, 48, 4
REGION = 128 << 20


def upsampling_network():
    """Stages of a 3 x 3 convolution to four times the channels, then depth to space: sides of 48 to 768."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4 * CHANNELS, CHANNELS, 3, 3)).astype(np.float32) / 24
    nodes, x = [], "x"
    for i in range(STAGES):
        nodes.append(helper.make_node("Conv", [x, "kernel"], [f"conv{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("DepthToSpace", [f"conv{i}"], [f"x{i}"], blocksize=2))
        nodes.append(helper.make_node("Relu", [f"x{i}"], [f"r{i}"]))
        x = f"r{i}"
    nodes.append(helper.make_node("ReduceMean", [x], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "decoder", [x], [y], [numpy_helper.from_array(kernel, "kernel")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def peak_mib(strategy):
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    growth = {"arena_extend_strategy": strategy, "initial_chunk_size_bytes": REGION}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(growth))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    session = ort.InferenceSession(upsampling_network(), options, providers=["CPUExecutionProvider"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for side in (SIDE, SIDE + 8):
        session.run(None, {"x": np.zeros((1, CHANNELS, side, side), np.float32)})
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if len(sys.argv) > 1:
    print(peak_mib(int(sys.argv[1])))
    sys.exit()
by_request, doubling = (
    float(subprocess.run([sys.executable, __file__, str(strategy)], capture_output=True, check=True, text=True).stdout)
    for strategy in (1, 0)
)
print("expected: least memory in regions of the requested size")
print(f"seen: {by_request:.0f} MiB in these, {doubling:.0f} MiB in regions that double from 128 MiB, {by_request / doubling:.2f}")
sys.exit(0 if by_request > 1.2 * doubling else 1)
PY
"$folder/venv/bin/python" "$folder/arena.py"
