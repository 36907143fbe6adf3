"""Points of JPEG and WebP on Kodak against those that CompressAI publishes.

Source: github.com/InterDigitalInc/CompressAI at 869a9f5, results/image/kodak/jpeg.json and webp.json: means over the 24
pictures of files by Pillow 7.1.2 at its default options, PSNR over RGB.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hfd.baselines.pillow_codecs import Baseline, Jpeg, WebP
from hfd.image.load import RgbArray, load_rgb
from hfd.metrics.distortion import bpp, ms_ssim, psnr

PUBLISHED = [
    # format, quality, bpp, PSNR dB, MS-SSIM
    ("jpeg", 10, 0.32661437988281244, 26.57723034342358, 0.8898622319102287),
    ("jpeg", 50, 0.9060007731119791, 32.05865273799422, 0.9752530703941981),
    ("jpeg", 90, 2.350199381510416, 37.9121247026983, 0.9929814984401067),
    ("webp", 5, 0.23441908094618058, 28.328423711178047, 0.9257391567031542),
    ("webp", 50, 0.7218170166015625, 33.23755297085759, 0.9750594049692154),
    ("webp", 95, 2.928478664822048, 41.75924866052373, 0.9959782809019089),
]
BASELINES: dict[str, Baseline] = {"jpeg": Jpeg(), "webp": WebP()}


def pictures(kodak: Path) -> list[RgbArray]:
    found = [load_rgb(path.read_bytes(), name=path.name) for path in sorted(kodak.glob("*.png"))]
    assert len(found) == 24
    return found


def plain_file(x: RgbArray, form: str, quality: int) -> bytes:
    """The file as CompressAI's benchmark writes it."""
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, format=form, quality=quality)
    return buffer.getvalue()


def means_of(kodak: Path, codec: Callable[[RgbArray], bytes], decode: Callable[[bytes], RgbArray]) -> list[float]:
    """Return the mean rate and PSNR over all pictures."""
    pairs = [(x, codec(x)) for x in pictures(kodak)]
    return [
        float(np.mean([bpp(len(data), x.shape[1], x.shape[0]) for x, data in pairs])),
        float(np.mean([psnr(x, decode(data)) for x, data in pairs])),
    ]


@pytest.mark.shared_data
@pytest.mark.parametrize(("form", "quality", "at_bpp", "at_psnr", "at_ms_ssim"), PUBLISHED)
def test_our_measures_of_plain_files_are_the_published_points(
    kodak: Path, form: str, quality: int, at_bpp: float, at_psnr: float, at_ms_ssim: float
) -> None:
    del at_ms_ssim
    found = means_of(kodak, lambda x: plain_file(x, form, quality), BASELINES[form].decode)
    assert found == pytest.approx([at_bpp, at_psnr], rel=0.01)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(("form", "quality", "at_bpp", "at_psnr", "at_ms_ssim"), PUBLISHED)
def test_ms_ssim_of_plain_files_is_the_published_one(
    kodak: Path, form: str, quality: int, at_bpp: float, at_psnr: float, at_ms_ssim: float
) -> None:
    """Of another implementation, with other borders: see `hfd.metrics.distortion.ms_ssim`."""
    del at_bpp, at_psnr
    values = [ms_ssim(x, BASELINES[form].decode(plain_file(x, form, quality))) for x in pictures(kodak)]
    assert None not in values
    assert np.mean(np.array(values, float)) == pytest.approx(at_ms_ssim, rel=0.01)


@pytest.mark.shared_data
@pytest.mark.parametrize(("form", "quality", "at_bpp", "at_psnr", "at_ms_ssim"), PUBLISHED)
def test_our_baselines_have_the_published_distortion_at_a_lower_rate(
    kodak: Path, form: str, quality: int, at_bpp: float, at_psnr: float, at_ms_ssim: float
) -> None:
    """They spend more time on a file (Huffman tables, scans, WebP's method 6): JPEG at quality 10 saves 22 %."""
    del at_ms_ssim
    codec = BASELINES[form]
    found = means_of(kodak, lambda x: codec.encode(x, quality), codec.decode)
    assert 0.75 * at_bpp < found[0] <= at_bpp
    assert found[1] == pytest.approx(at_psnr, rel=0.01)
