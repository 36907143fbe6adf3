"""``hfd.compress`` and ``hfd.decompress``: inputs, outputs, and models cached between calls."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hfd
from hfd.codec import library
from hfd.codec.codec import Codec
from hfd.codec.container import unpack
from hfd.codec.picture.content import read_picture
from hfd.diffusion.sampling import Sampling
from hfd.errors import BitstreamError, ConfigError, DataError
from hfd.io.storage import Folder
from tests.support.pictures import photograph, wide_profile


@pytest.fixture
def model(model_folder: Folder) -> str:
    return str(model_folder.path)


X = photograph(40, 70)


@pytest.mark.integration
def test_importing_it_costs_nothing_and_its_functions_are_there() -> None:
    script = (
        "import sys, hfd\n"
        "assert {'compress', 'decompress'} <= set(dir(hfd))\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'compressai', 'pyarrow'} & set(sys.modules)))\n"
        "assert not hasattr(hfd, 'nonsense')\n"
        "hfd.compress, hfd.decompress\n"
        "from hfd import compress\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.integration
def test_the_codec_imports_nothing_that_few_need() -> None:
    script = "import sys, hfd.api; print(*({'urllib.request', 'multiprocessing', 'torch', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_it_gives_the_results_of_the_codec(model: str) -> None:
    data = hfd.compress(X, model=model)
    codec = Codec.load(Folder(model))
    assert data == codec.compress(X).data
    picture = hfd.decompress(data, model=model, realism=0.0)
    assert (picture.mode, picture.size) == ("RGB", (70, 40))
    np.testing.assert_array_equal(np.asarray(picture), codec.reconstruct(data))
    sample = hfd.decompress(data, model=model, steps=2, seed=3)
    wanted = codec.sample(codec.reconstruct(data), Sampling(steps=2), seed=3)
    np.testing.assert_array_equal(np.asarray(sample), wanted)
    assert (np.asarray(hfd.decompress(data, model=model, steps=2, seed=4)) != wanted).any()


def test_paths_arrays_and_images_are_the_same_picture(model: str, tmp_path: Path) -> None:
    Image.fromarray(X).save(tmp_path / "x.png")
    data = hfd.compress(X, model=model)
    assert hfd.compress(Image.fromarray(X), model=model) == data
    assert hfd.compress(str(tmp_path / "x.png"), model=model) == data
    assert hfd.compress(tmp_path / "x.png", model=Path(model)) == data
    assert hfd.compress(np.dstack([X, np.full(X.shape[:2], 255, np.uint8)]), model=model) == data
    grey = X[..., 0]
    assert hfd.compress(grey, model=model) == hfd.compress(np.repeat(grey[..., None], 3, axis=2), model=model)
    file = tmp_path / "x.hfd"
    file.write_bytes(data)
    first = hfd.decompress(file, model=model, realism=0.0)
    for held in (data, bytearray(data), memoryview(data), str(file)):
        assert hfd.decompress(held, model=model, realism=0.0).tobytes() == first.tobytes()


def test_transparency_comes_back_without_loss_or_goes_over_white(model: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 70).round().astype(np.uint8), (40, 1))
    rgba = np.dstack([X, alpha])
    back = hfd.decompress(hfd.compress(rgba, model=model), model=model, realism=0.0)
    assert back.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(back)[..., 3], alpha)
    white = Image.new("RGB", (70, 40), "white")
    white.paste(Image.fromarray(X), mask=Image.fromarray(alpha))
    assert hfd.compress(rgba, model=model, keep_alpha=False) == hfd.compress(white, model=model)


def test_the_image_that_is_given_stays_as_it_is(model: str) -> None:
    image = Image.fromarray(X).quantize(16)
    image.info["transparency"] = 3
    before, info = image.tobytes(), dict(image.info)
    hfd.compress(image, model=model)
    assert (image.mode, image.tobytes(), image.info) == ("P", before, info)


def test_orientation_is_applied_and_metadata_kept_if_asked(model: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    profile = wide_profile()
    path = tmp_path / "x.jpg"
    Image.fromarray(X).save(path, exif=exif, icc_profile=profile, quality=100, subsampling=0)
    plain = hfd.compress(path, model=model)
    assert set(unpack(plain).sections) == {0}
    data = hfd.compress(path, model=model, keep_metadata=True)
    back = hfd.decompress(data, model=model, realism=0.0)
    assert back.size == (40, 70)
    assert back.info["icc_profile"] == profile
    kept = back.getexif()
    assert dict(kept) == {0x010F: "a camera", 0x0112: 1}
    with Image.open(path) as opened:
        assert hfd.compress(opened, model=model, keep_metadata=True) == data
        values = np.asarray(opened.transpose(Image.Transpose.ROTATE_270))
    # The colours are those of the file, for its own profile: coded as they are, and not as sRGB.
    np.testing.assert_array_equal(read_picture(path, keep_metadata=True).rgb, values)
    assert np.abs(read_picture(path).rgb.astype(int) - values).mean() > 2


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (X.astype(np.float32), "image: got float32 (40, 70, 3), expected uint8"),
        (X[..., :2], "image: got uint8 (40, 70, 2), expected uint8"),
        (X[:0], "image: got uint8 (0, 70, 3), expected uint8"),
        (Image.new("RGB", (0, 5)), "image: got 0 x 5 px, expected at least 1 pixel"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "image: grey samples are not all finite"),
        ("no/such/file.png", "no/such/file.png: got 'No such file or directory', expected a readable file"),
    ],
)
def test_an_input_that_is_not_a_picture_is_one_line(model: str, image: object, words: str) -> None:
    with pytest.raises(DataError) as caught:
        hfd.compress(image, model=model)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_mistakes_of_decoding_are_one_line(model: str) -> None:
    data = hfd.compress(X, model=model)
    with pytest.raises(BitstreamError, match=r"This is no"):
        hfd.decompress(b"nonsense", model=model)
    with pytest.raises(BitstreamError, match="expected one of the shipped models"):
        hfd.decompress(data)
    with pytest.raises(ConfigError, match="seed: got -1, expected at least 0"):
        hfd.decompress(data, model=model, seed=-1)
    with pytest.raises(ConfigError, match=r"realism: got 1\.5, expected 0 to 1"):
        hfd.decompress(data, model=model, realism=1.5)
    with pytest.raises(DataError, match=r"region: got 60,0,11,5, expected x,y,w,h within 70 x 40 px. Move or"):
        hfd.decompress(data, model=model, region=(60, 0, 11, 5))
    with pytest.raises(ConfigError, match=r"region: got \(1, 2\), expected \(x, y, width, height\)"):
        hfd.decompress(data, model=model, region=(1, 2))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="workers: got 0, expected at least 1"):
        hfd.decompress(data, model=model, workers=0)


def test_a_region_is_the_crop_of_the_whole(model: str) -> None:
    alpha = np.tile(np.arange(70, dtype=np.uint8), (40, 1))
    data = hfd.compress(np.dstack([X, alpha]), model=model)
    for realism in (0.0, 1.0):
        whole = np.asarray(hfd.decompress(data, model=model, steps=1, realism=realism)).astype(int)
        part = hfd.decompress(data, model=model, steps=1, realism=realism, region=(30, 5, 21, 17))
        assert (part.mode, part.size) == ("RGBA", (21, 17))
        np.testing.assert_allclose(np.asarray(part).astype(int), whole[5:22, 30:51], atol=1 if realism == 0.0 else 4)
        np.testing.assert_array_equal(np.asarray(part)[..., 3], alpha[5:22, 30:51])


def test_targets_are_kept_to(model: str) -> None:
    free = len(hfd.compress(X, model=model))
    for limit in (free + 100, free - 1, free // 2):
        assert len(hfd.compress(X, model=model, num_bytes=limit)) <= limit
    with pytest.raises(DataError, match="expected at least") as caught:
        hfd.compress(X, model=model, num_bytes=10)
    smallest = int(str(caught.value).partition("expected at least ")[2].partition(",")[0])
    assert len(hfd.compress(X, model=model, num_bytes=smallest)) == smallest
    sizes = [len(hfd.compress(X, model=model, quality=quality)) for quality in (1, 50, 100)]
    assert sizes[0] < sizes[1] < sizes[2]


# --- several models ------------------------------------------------------------------------------


@pytest.fixture
def models(model_folder: Folder, tmp_path: Path) -> Path:
    """A folder of two models: the fixture's twice, the second said to be of a higher rate."""
    from hfd.io.tensors import read_weights, write_weights

    shutil.copytree(model_folder.path / "autoencoder", tmp_path / "models/z-low/autoencoder")
    tensors, config, _ = read_weights(model_folder / "autoencoder")
    write_weights(Folder(str(tmp_path / "models/a-high/autoencoder")), tensors, {**config, "lmbda": 0.5})
    (tmp_path / "models/notes").mkdir()
    return tmp_path / "models"


def test_a_folder_of_models_is_searched_and_decoded_from(models: Path) -> None:
    found = library.find_models(str(models))
    assert [library.name_of(folder) for folder in found] == ["z-low", "a-high"]
    low, high = (Codec.load(folder).model for folder in found)
    assert unpack(hfd.compress(X, model=models)).model == high
    assert unpack(hfd.compress(X, model=models, quality=1)).model == low
    assert unpack(hfd.compress(X, model=models, quality=100)).model == high
    data = hfd.compress(X, model=models, quality=1)
    assert hfd.decompress(data, model=models).size == (70, 40)
    shutil.rmtree(models / "z-low")
    assert hfd.compress(X, model=models)[:4] == data[:4]
    shutil.copytree(models / "a-high", models / "b-high")
    with pytest.raises(BitstreamError, match=r"expected one of .*models \(a-high, b-high\)\. Give the model that made"):
        hfd.decompress(data, model=models)


def test_several_models_need_their_lmbda(models: Path) -> None:
    config = models / "z-low/autoencoder/config.json"
    config.write_text(config.read_text().replace('"lmbda"', '"lambda"'))
    with pytest.raises(DataError, match=r"z-low/autoencoder/config\.json: got no lmbda"):
        library.find_models(str(models))


# --- what is kept --------------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded, from disk."""
    library.forget()
    seen: list[str] = []
    original = Codec.load

    def spy(folder: Folder, **options: str) -> Codec:
        seen.append(folder.uri)
        return original(folder, **options)

    monkeypatch.setattr(Codec, "load", spy)
    return seen


def test_a_model_is_loaded_once_and_again_when_it_changes(
    model_folder: Folder, tmp_path: Path, loads: list[str]
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model_folder.path, copy)
    first = hfd.compress(X, model=copy)
    assert hfd.compress(X, model=copy) == first
    hfd.decompress(first, model=copy, realism=0.0)
    assert len(loads) == 1
    config = copy / "autoencoder/config.json"
    config.write_text(config.read_text().replace("0.004", "0.04"))
    shutil.rmtree(copy / "decoder")
    changed = hfd.compress(X, model=copy)
    assert len(loads) == 2
    assert unpack(changed).model != unpack(first).model


def test_the_model_longest_out_of_use_goes_first(model_folder: Folder, tmp_path: Path, loads: list[str]) -> None:
    copies = [tmp_path / str(k) for k in range(library.MAX_LOADED + 1)]
    for copy in copies:
        shutil.copytree(model_folder.path, copy)
    for copy in [*copies[:-1], copies[0], copies[-1], copies[0]]:
        hfd.compress(X[:8, :8], model=copy)
    assert len(loads) == len(copies)
    hfd.compress(X[:8, :8], model=copies[1])
    assert loads[-1] == str(copies[1]) and len(loads) == len(copies) + 1


def test_threads_share_a_model_and_get_the_results_of_one(model: str, loads: list[str]) -> None:
    pictures = [photograph(24, 24 + 8 * k, seed=k) for k in range(6)]
    start = threading.Barrier(6)

    def there_and_back(x: np.ndarray) -> tuple[bytes, bytes]:
        start.wait()
        data = hfd.compress(x, model=model)
        return data, hfd.decompress(data, model=model, steps=2).tobytes()

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(there_and_back, pictures))
    assert len(loads) == 1
    for x, (data, decoded) in zip(pictures, together, strict=True):
        assert hfd.compress(x, model=model) == data
        assert hfd.decompress(data, model=model, steps=2).tobytes() == decoded


def test_a_model_that_cannot_be_loaded_is_tried_again(model_folder: Folder, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model_folder.path, copy)
    weights = (copy / "autoencoder/weights.safetensors").read_bytes()
    (copy / "autoencoder/weights.safetensors").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match="not readable weights"):
            hfd.compress(X, model=copy)
    (copy / "autoencoder/weights.safetensors").write_bytes(weights)
    assert hfd.compress(X, model=copy)


def test_a_search_analyses_the_picture_once_for_all_rates(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    analyse, calls = Codec.analyse, 0

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        return analyse(*arguments, **settings)

    monkeypatch.setattr(Codec, "analyse", counted)
    once = hfd.compress(X, num_bytes=400, model=model)
    assert calls == 1
    monkeypatch.setattr("hfd.codec.encode.KEPT_PIXELS", 0)
    assert hfd.compress(X, num_bytes=400, model=model) == once
    assert calls > 2


def test_memory_that_runs_out_is_one_line(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Codec, "analyse", hungry)
    with pytest.raises(DataError, match=r"^memory: got less than the picture needs"):
        hfd.compress(X, model=model)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Codec, "analyse", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        hfd.compress(X, model=model)
