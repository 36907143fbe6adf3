"""Pictures without colour stay without colour, by every way of decoding."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hfd
from hfd.codec.container import GREY, Container, pack, unpack
from hfd.codec.picture import strips
from hfd.codec.picture.content import Picture
from hfd.codec.picture.png import png_chunks
from hfd.codec.pixels import to_grey
from hfd.codec.sections import Extras, read_extras
from hfd.errors import BitstreamError
from hfd.pillow_plugin import register
from tests.support.format_reader import RefusedError, read_file, read_grey
from tests.support.pictures import photograph

MODEL = "desk-012"
X = np.ascontiguousarray(photograph(70, 100)[..., 0])


def is_grey(data: bytes) -> bool:
    assert read_grey(read_file(data).sections) == (GREY in unpack(data).sections)
    return GREY in unpack(data).sections


def jpeg(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=90)
    return held.getvalue()


def test_equal_channels_are_noted(tmp_path: Path) -> None:
    grey = Image.fromarray(X)
    for name, image in (
        ("l.png", grey),
        ("rgb.png", grey.convert("RGB")),
        ("l.jpg", grey),
        ("rgb.jpg", grey.convert("RGB")),
    ):
        image.save(tmp_path / name)
        assert is_grey(hfd.compress(tmp_path / name, model=MODEL))
    bits = grey.convert("1")
    palette = grey.convert("P")
    for image in (bits, palette, X, np.dstack([X, X, X])):
        assert is_grey(hfd.compress(image, model=MODEL))
    one_pixel = np.dstack([X, X, X])
    one_pixel[-1, -1, 2] ^= 1
    assert not is_grey(hfd.compress(one_pixel, model=MODEL))


def test_strips_note_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(strips, "WHOLE_PIXELS", 16)
    Image.fromarray(np.dstack([X, X, X])).save(tmp_path / "x.png")
    assert isinstance(strips.open_picture(tmp_path / "x.png"), strips.StripPicture)
    assert is_grey(hfd.compress(tmp_path / "x.png", model=MODEL))
    assert is_grey(hfd.compress(tmp_path / "x.png", model=MODEL, num_bytes=2000))


@pytest.mark.parametrize("options", [{}, {"realism": 0.0}, {"realism": 0.5}, {"grain": True}, {"finish": False}])
def test_a_grey_picture_is_decoded_to_one_channel(options: dict[str, object]) -> None:
    data = hfd.compress(X, model=MODEL)
    whole = hfd.decompress(data, steps=1, **options)  # type: ignore[arg-type]
    assert whole.mode == "L" and whole.size == (100, 70)
    part = hfd.decompress(data, steps=1, region=(32, 16, 40, 30), **options)  # type: ignore[arg-type]
    assert part.mode == "L"
    assert np.abs(np.asarray(part, int) - np.asarray(whole, int)[16:46, 32:72]).max() <= 6


def test_patches_are_grey() -> None:
    from hfd.codec.codec import Codec, Request
    from hfd.diffusion.sampling import Sampling
    from hfd.geometry.plan import PatchLayout, Scheme
    from hfd.io.model_folders import find_model

    codec = Codec.load(find_model(MODEL))
    container = unpack(codec.compress(np.dstack([X, X, X])).data)
    for scheme in Scheme:
        layout = PatchLayout(scheme=scheme)
        x = codec.render(codec.open(container), Request(Sampling(1, realism=0.7), layout=layout))
        assert (x == x[..., :1]).all()


def test_transparency_and_other_formats() -> None:
    opacity = np.tile(np.arange(100, dtype=np.uint8), (70, 1))
    data = hfd.compress(Image.fromarray(np.dstack([X, opacity])), model=MODEL)
    back = hfd.decompress(data, realism=0.0)
    assert back.mode == "LA" and np.array_equal(np.asarray(back)[..., 1], opacity)
    register()
    opened = Image.open(io.BytesIO(data))
    assert opened.mode == "LA"
    opened.options = {"realism": 0.0}
    assert np.array_equal(np.asarray(opened), np.asarray(back))


@pytest.mark.parametrize("with_alpha", [True, False])
def test_png_by_strips_has_one_channel(with_alpha: bool) -> None:
    alpha = np.full_like(X, 200) if with_alpha else None
    picture = Picture(np.dstack([X, X, X]), Extras(alpha=alpha, is_grey=True))
    image = Image.open(io.BytesIO(b"".join(png_chunks(picture))))
    assert image.mode == ("LA" if with_alpha else "L")
    assert np.array_equal(np.asarray(image.getchannel("L")), X)


def test_a_kept_profile_of_three_channels_keeps_them() -> None:
    picture = Picture(np.dstack([X, X, X]), Extras(icc=b"a profile", is_grey=True))
    assert picture.to_image().mode == "RGB"


def test_the_mean_is_rounded() -> None:
    x = np.array([[[0, 0, 1], [0, 0, 2], [0, 1, 1], [255, 255, 254], [1, 2, 3]]], np.uint8)
    assert to_grey(x)[0].tolist() == [[0] * 3, [1] * 3, [1] * 3, [255] * 3, [2] * 3]


def test_a_section_with_content_is_refused() -> None:
    data = pack(Container(4, 4, bytes(4), 128, 0, {0: bytes(8), GREY: b"\1"}))
    with pytest.raises(BitstreamError, match="grey: got 1 bytes, expected none"):
        read_extras(unpack(data), max_pixels=100)
    with pytest.raises(RefusedError):
        read_grey(read_file(data).sections)
