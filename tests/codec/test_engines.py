"""Engines: files of each decode in the other, pictures agree, and the CPU needs no torch."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hfd.codec.codec import Codec, Request
from hfd.codec.container import unpack
from hfd.codec.engines import engine_named
from hfd.codec.patches import PixelSource
from hfd.diffusion.sampling import Sampling
from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box
from hfd.geometry.plan import PatchLayout, Scheme
from hfd.image.load import RgbArray
from hfd.io.model_folders import find_model
from hfd.io.storage import Folder
from hfd.kinds import EngineKind
from tests.support.absent import run_without
from tests.support.pictures import photograph

pytestmark = pytest.mark.integration

MODEL = "desk-025"
HEAVY = {"torch", "compressai", "scipy", "pandas"}


@pytest.fixture(scope="module")
def codecs() -> dict[EngineKind, Codec]:
    pytest.importorskip("onnxruntime")
    engines: tuple[EngineKind, ...] = ("torch", "onnx")
    return {engine: Codec.load(find_model(MODEL), engine=engine) for engine in engines}


@pytest.fixture(scope="module")
def x() -> RgbArray:
    return photograph(150, 200, seed=4)


def differs_by_a_level(one: RgbArray, other: RgbArray) -> None:
    assert float(np.std(one)) > 5.0
    apart = np.abs(one.astype(int) - other)
    assert int(apart.max()) <= 1 and float((apart > 0).mean()) < 0.02


@pytest.mark.parametrize(("writer", "reader"), [("torch", "onnx"), ("onnx", "torch")])
def test_files_of_one_engine_decode_in_the_other(
    codecs: dict[EngineKind, Codec], x: RgbArray, writer: EngineKind, reader: EngineKind
) -> None:
    data = codecs[writer].compress(x, rate=118).data
    latents = [codecs[engine].open(unpack(data)).y_hat for engine in (writer, reader)]
    assert np.array_equal(*latents) and float(latents[0].std()) > 0.5
    differs_by_a_level(codecs[writer].reconstruct(data), codecs[reader].reconstruct(data))


@pytest.mark.parametrize(
    ("settings", "layout", "box"),
    [
        (Sampling(1), PatchLayout(), None),
        (Sampling(3, "heun", finish=False), PatchLayout(), None),
        (Sampling(1, realism=0.5, grain=True), PatchLayout(), Box(20, 30, 70, 90)),
        (Sampling(1), PatchLayout(Scheme.FOUR_GROUPS, groups_px=128), None),
    ],
)
def test_samples_of_the_engines_agree(
    codecs: dict[EngineKind, Codec], x: RgbArray, settings: Sampling, layout: PatchLayout, box: Box | None
) -> None:
    """From the same reconstruction: where stage 1 lies half-way between two levels, a finish amplifies its choice."""
    source = PixelSource(codecs["torch"].reconstruct(codecs["torch"].compress(x).data))
    request = Request(settings, 5, box, "float32", layout)
    differs_by_a_level(*(codec.render(source, request) for codec in codecs.values()))


def test_a_finish_changes_the_sample_of_either_engine(codecs: dict[EngineKind, Codec], x: RgbArray) -> None:
    for codec in codecs.values():
        assert codec.decoder is not None
        config = {**codec.decoder.config, "finish": {"sharpen": 0.5, "chroma_noise": 1.2}}
        with_finish = Codec(codec.autoencoder, replace(codec.decoder, config=config))
        one, other = (with_finish.sample(x, Sampling(1, finish=finish), seed=1) for finish in (True, False))
        assert float(np.abs(one.astype(int) - other).mean()) > 0.2


def test_auto_is_onnx_where_it_is_installed(codecs: dict[EngineKind, Codec]) -> None:
    kinds = {type(Codec.load(find_model(MODEL), engine=engine).networks) for engine in ("auto", "onnx")}  # type: ignore[arg-type]
    assert kinds == {type(codecs["onnx"].networks)} != {type(codecs["torch"].networks)}


def copied(model: Folder, where: Path) -> Folder:
    folder = Folder(str(where))
    for entry in model.files():
        folder.write(entry.key, model.read(entry.key))
    return folder


@pytest.mark.parametrize("name", ["autoencoder/synthesis.onnx", "decoder/network.onnx"])
def test_a_model_whose_graphs_do_not_serve_runs_by_torch(
    codecs: dict[EngineKind, Codec], tmp_path: Path, name: str
) -> None:
    folder = copied(find_model(MODEL), tmp_path / "model")
    for broken in (None, b"no graph", Folder(find_model("desk-012").uri).read(name)):
        (tmp_path / "model" / name).unlink(missing_ok=True)
        if broken is not None:
            folder.write(name, broken)
        assert type(Codec.load(folder).networks) is type(codecs["torch"].networks)
        with pytest.raises(DataError, match=name) as raised:
            codec = Codec.load(folder, engine="onnx")
            codec.sample(codec.reconstruct(codec.compress(photograph(32, 32)).data), Sampling(1), seed=0)
        assert "\n" not in str(raised.value) and "--engine torch" in str(raised.value)


def test_wrong_engines_are_refused() -> None:
    with pytest.raises(ConfigError, match="engine: got 'tpu', expected one of auto, torch, onnx"):
        engine_named("tpu")


def test_onnx_is_refused_on_a_gpu(codecs: dict[EngineKind, Codec]) -> None:
    del codecs
    with pytest.raises(ConfigError, match="engine: got onnx on cuda, expected it on the CPU alone"):
        Codec.load(find_model(MODEL), device="cuda", engine="onnx")


@pytest.mark.integration
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_an_engine_that_is_not_installed_is_one_line(tmp_path: Path, command: str) -> None:
    hide = "import importlib.util as u; find = u.find_spec\n"
    hide += "u.find_spec = lambda name, *a: None if name == 'onnxruntime' else find(name, *a)\n"
    code = f"{hide}import sys; sys.argv[0] = 'hfd'\nfrom hfd.cli.main import main\nmain()"
    ended = run_without(["onnxruntime"], code, command, "a.png", "--engine", "onnx", cwd=tmp_path)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("hfd: engine: got onnx, but onnxruntime is not installed. pip install onnxruntime")


WHOLE = """
import sys
import numpy as np
import hfd.pillow_plugin
from PIL import Image
picture = Image.fromarray(np.load(sys.argv[1]))
data = hfd.compress(picture, bpp=1.0)
hfd.decompress(data, region=(3, 5, 60, 40))
picture.save("a.hfd", quality=50)
with Image.open("a.hfd") as back:
    back.load()
    assert back.size == picture.size
assert "compressai" not in sys.modules  # of which the compiled coder alone is loaded
"""


@pytest.mark.integration
def test_the_codec_needs_no_torch_on_the_cpu(tmp_path: Path, x: RgbArray) -> None:
    """Neither is it imported where it is installed, since that would fail."""
    pytest.importorskip("onnxruntime")
    np.save(tmp_path / "x.npy", x)
    there = f"import sys; sys.path[:0] = {sys.path!r}\n"
    ended = run_without(["pandas", "scipy", "torch"], there + WHOLE, "x.npy", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.integration
@pytest.mark.parametrize(
    "code",
    [
        "import hfd.api, hfd.pillow_plugin",
        "sys.argv[1:] = ['--version']; from hfd.cli.main import main; main()",
        "sys.argv[1:] = ['info', 'desk-025']; from hfd.cli.main import main; main()",
        f"sys.argv[1:] = ['info', {str(Path(__file__).parent.parent / 'golden/plain.hfd')!r}]\n"
        "from hfd.cli.main import main; main()",
    ],
)
def test_light_commands_import_nothing_heavy(tmp_path: Path, code: str) -> None:
    there = f"import sys; sys.path[:0] = {sys.path!r}\n"
    ended = run_without(sorted({*HEAVY, "onnxruntime"}), there + code, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
