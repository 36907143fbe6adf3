"""Options of sampling: of the command that decodes, and of the one whose files ask for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfd.codec.codec import Codec
from hfd.codec.container import SAMPLING, unpack
from hfd.codec.sampling_options import SamplingOptions, decode_sampling
from hfd.image.load import load_rgb
from hfd.io.storage import Folder
from tests.support.command_line import Hfd


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--sampler", "dpm"],
            "sampler: got 'dpm', expected one of auto, ancestral, ddim, dpmpp-2m, euler, heun, midpoint",
        ),
        (["--sampler", "euler"], "sampler: got euler, expected one of ancestral, ddim, dpmpp-2m, since this model's"),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--realism", "1.5"], "Invalid value for '--realism'"),
        (["--stop", "1.5"], "Invalid value for '--stop'"),
    ],
)
def test_a_sampling_that_cannot_be_is_one_line(
    hfd: Hfd, file: Path, model_folder: Folder, options: list[str], words: str
) -> None:
    output = file.with_suffix(".png")
    assert words in hfd("decompress", file, "-m", model_folder.path, "-o", output, *options).complaint
    assert not output.exists()


def test_realism_lies_between_the_reconstruction_and_the_sample(
    hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path
) -> None:
    pictures = {}
    for realism in (0, 0.5, 1):
        output = tmp_path / f"{realism}.png"
        said = hfd("decompress", file, "-m", model_folder.path, "-o", output, "--steps", 2, "--realism", realism).out
        assert ("reconstruction" in said) == (realism == 0) and ("realism 0.5" in said) == (realism == 0.5)
        pictures[realism] = load_rgb(output).astype(float)
    np.testing.assert_allclose(pictures[0.5], (pictures[0] + pictures[1]) / 2, atol=1.0)
    assert np.abs(pictures[1] - pictures[0]).max() > 5


def test_every_sampler_of_a_diffusion_decodes(hfd: Hfd, file: Path, model_folder: Folder, tmp_path: Path) -> None:
    for sampler in ("ancestral", "ddim", "dpmpp-2m"):
        output = tmp_path / f"{sampler}.png"
        ended = hfd("decompress", file, "-m", model_folder.path, "-o", output, "--steps", 2, "--sampler", sampler)
        assert ended.code == 0 and f"sample of 2 steps, {sampler}, seed" in ended.out


def test_a_file_is_decoded_as_it_asks_for(hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path) -> None:
    file, model = tmp_path / "x.hfd", model_folder.path
    wish = ["--steps", 2, "--sampler", "ddim", "--realism", 0.25, "--stop", 0.5, "--seed", 11, "--no-finish"]
    assert hfd("compress", photo, "-m", model, "-o", file, *wish).code == 0
    held = unpack(file.read_bytes())
    expected = SamplingOptions(2, "ddim", realism=0.25, seed=11, finish=False, stop=0.5)
    assert decode_sampling(held.sections[SAMPLING]) == expected
    assert "sampling     kind ddim, steps 2, realism 0.25, finish False, seed 11, stop 0.5\n" in hfd("info", file).out

    asked = hfd("decompress", file, "-m", model, "-o", tmp_path / "asked.png")
    assert "sample of 2 steps, ddim, realism 0.25, stop 0.5, no finish, seed 11" in asked.out
    plain = tmp_path / "plain.hfd"
    assert hfd("compress", photo, "-m", model, "-o", plain).code == 0
    assert set(unpack(plain.read_bytes()).sections) == {0}
    hfd("decompress", plain, "-m", model, "-o", tmp_path / "told.png", *wish)
    np.testing.assert_array_equal(load_rgb(tmp_path / "asked.png"), load_rgb(tmp_path / "told.png"))

    over = hfd("decompress", file, "-m", model, "-o", tmp_path / "over.png", "--realism", 0)
    assert over.out.endswith("reconstruction\n")
    np.testing.assert_array_equal(
        load_rgb(tmp_path / "over.png"), Codec.load(model_folder).reconstruct(file.read_bytes())
    )


def test_a_target_holds_with_stored_options(hfd: Hfd, photo: Path, model_folder: Folder, tmp_path: Path) -> None:
    file = tmp_path / "x.hfd"
    wish = ["--steps", 2, "--seed", 2**63]
    complaint = hfd("compress", photo, "-m", model_folder.path, "-o", file, "--bytes", 30, *wish).complaint
    least = int(complaint.split("expected at least ")[1].split(",")[0])
    assert hfd("compress", photo, "-m", model_folder.path, "-o", file, "--bytes", least, *wish).code == 0
    assert file.stat().st_size == least
    sampling = len(unpack(file.read_bytes()).sections[SAMPLING])
    plain = hfd("compress", photo, "-m", model_folder.path, "-o", tmp_path / "y.hfd", "--bytes", 30).complaint
    assert f"expected at least {least - sampling - 3}," in plain  # a tag of two bytes and a length


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sampler", "dpm"], "sampler: got 'dpm', expected one of auto, ancestral"),
        (["--sampler", "euler"], "sampler: got euler, expected one of ancestral, ddim, dpmpp-2m, since this model's"),
        (["--seed", str(2**64)], f"seed: got {2**64}, expected 0 to {2**64 - 1}"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_one_line(
    hfd: Hfd, photo: Path, model_folder: Folder, options: list[str], words: str
) -> None:
    assert words in hfd("compress", photo, "-m", model_folder.path, *options).complaint
    assert not photo.with_suffix(".hfd").exists()
