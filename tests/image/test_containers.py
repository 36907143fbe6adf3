"""Containers: the picture of a TIFF that counts, layouts by the format's rules, and formats refused by name."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
from PIL import Image

from hfd.codec.picture import strips
from hfd.codec.picture.content import read_picture
from hfd.codec.picture.strips import StripPicture, open_picture
from hfd.errors import DataError
from hfd.image.formats import unread_format
from hfd.image.load import load_rgb
from tests.support.tiff import Page, packed_page, page, tiff

HEIGHT, WIDTH = 32, 48
RAMP = np.tile(np.linspace(25, 225, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
PHOTO = np.dstack([RAMP, RAMP // 2, 255 - RAMP])
DEEP = PHOTO.astype(np.uint16) * 257


def refusal(data: bytes) -> DataError:
    with pytest.raises(DataError) as caught:
        load_rgb(data, name="a.tif")
    message = str(caught.value)
    assert message.startswith("a.tif: got ") and ", expected " in message and "\n" not in message
    assert "damaged" not in message
    return caught.value


def typed(kind: int, x: npt.NDArray[np.uint8] = PHOTO, subs: tuple[Page, ...] = ()) -> Page:
    """A page with a NewSubfileType."""
    return page(x, 2 if x.ndim == 3 else 1, tags={254: [kind]}, subs=subs)


SMALL, MASK = PHOTO[::2, ::2], (RAMP > 100).astype(np.uint8) * 255
CONTAINERS = {
    "preview first": tiff(typed(1, SMALL), typed(0)),
    "preview first, big-endian": tiff(typed(1, SMALL), typed(0), order=">"),
    "mask first": tiff(typed(4, MASK), typed(0)),
    "mask of a preview first": tiff(typed(5, MASK), typed(1, SMALL), typed(0)),
    "mask by its photometric interpretation": tiff(page(MASK, 4), typed(0)),
    "old subfile type": tiff(page(SMALL, 2, tags={255: [2]}), page(PHOTO, 2, tags={255: [1]})),
    "in a SubIFD": tiff(typed(1, SMALL, subs=(typed(0),))),
    "in the second SubIFD": tiff(typed(1, SMALL, subs=(typed(1, SMALL[::2]), typed(0)))),
    "reduced versions alone": tiff(typed(1, SMALL), typed(1), typed(1, SMALL[::2])),
    "a pyramid": tiff(typed(0, subs=(typed(1, SMALL),))),
    "a scan of two pages": tiff(typed(2), typed(2, PHOTO[::-1])),
    "planes of 16 bits behind a mask": tiff(typed(4, MASK), page(DEEP, 2, planar=True)),
    "planes of 16 bits in a SubIFD": tiff(typed(1, SMALL, subs=(page(DEEP, 2, planar=True),))),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_first_picture_that_is_no_preview_and_no_mask_counts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.testing.assert_array_equal(load_rgb(CONTAINERS[name]), PHOTO)
    path = tmp_path / "a.tif"
    path.write_bytes(CONTAINERS[name])
    monkeypatch.setattr(strips, "WHOLE_PIXELS", 100)
    for source in (CONTAINERS[name], path):
        picture = open_picture(source)
        assert isinstance(picture, StripPicture) == ("planes" not in name)
        np.testing.assert_array_equal(picture.rows(0, HEIGHT), PHOTO)


def test_a_loop_of_directories_ends() -> None:
    data = bytearray(tiff(typed(1, SMALL), typed(1)))
    first = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, len(data) - 4, first)
    np.testing.assert_array_equal(load_rgb(bytes(data)), PHOTO)


def test_tags_of_the_chosen_page_count() -> None:
    turned = page(DEEP, 2, planar=True, tags={274: [6]})
    for first in ((), (typed(1, SMALL),)):
        np.testing.assert_array_equal(load_rgb(tiff(*first, turned)), np.rot90(PHOTO, -1))
    described = tiff(typed(1, SMALL), page(DEEP, 2, planar=True, tags={296: [3], 282: [7]}))
    picture = read_picture(described, keep_metadata=True)
    exif = Image.Exif()
    assert picture.extras.exif is not None
    exif.load(picture.extras.exif)
    assert exif[296] == 3 and 273 not in exif


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("rows", [None, 7])
def test_planes_of_sixteen_bits(order: str, rows: int | None) -> None:
    data = tiff(page(DEEP, 2, order=order, planar=True, rows=rows), order=order)
    by_libvips = pyvips.Image.tiffload_buffer(data).numpy()
    np.testing.assert_array_equal(by_libvips >> 8, PHOTO)
    np.testing.assert_array_equal(load_rgb(data), PHOTO)
    inks = np.dstack([DEEP, np.zeros((HEIGHT, WIDTH), np.uint16)])
    cmyk = tiff(page(inks, 5, order=order, planar=True, rows=rows), order=order)
    assert np.abs(load_rgb(cmyk).astype(int) - (255 - PHOTO)).max() <= 1
    alpha = np.dstack([DEEP, DEEP[..., 2]])
    rgba = read_picture(tiff(page(alpha, 2, order=order, planar=True, rows=rows, extra=[2]), order=order))
    np.testing.assert_array_equal(rgba.rgb, PHOTO)
    np.testing.assert_array_equal(rgba.extras.alpha, PHOTO[..., 2])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_whose_zero_is_white(order: str, deflate: bool, bits: int) -> None:
    samples = RAMP if bits == 8 else RAMP.astype(np.uint16) * 257
    for white, expected in ((0, 255 - RAMP), (1, RAMP)):
        x = load_rgb(tiff(page(samples, white, order=order, deflate=deflate), order=order))
        np.testing.assert_array_equal(x[..., 1], expected)


@pytest.mark.parametrize("order", "<>")
def test_grey_with_alpha_of_sixteen_bits(order: str) -> None:
    pair = np.dstack([DEEP[..., 0], DEEP[..., 2]])
    for photometric, grey in ((0, 255 - RAMP), (1, RAMP)):
        picture = read_picture(tiff(page(pair, photometric, order=order, extra=[2]), order=order))
        np.testing.assert_array_equal(picture.rgb[..., 0], grey)
        np.testing.assert_array_equal(picture.extras.alpha, PHOTO[..., 2])
    multiplied = np.dstack([DEEP[..., 0] // 2, np.full_like(RAMP, 128) * np.uint16(257)])
    picture = read_picture(tiff(page(multiplied, 1, order=order, extra=[1]), order=order))
    assert np.abs(picture.rgb[..., 0] - RAMP * (255 / 256)).max() <= 1


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
def test_grey_of_floats(kind: type[np.floating], order: str, deflate: bool) -> None:
    data = tiff(page((RAMP / 255).astype(kind), 1, order=order, deflate=deflate), order=order)
    np.testing.assert_array_equal(load_rgb(data)[..., 0], RAMP)


def test_cielab() -> None:
    image = Image.fromarray(PHOTO).convert("LAB")
    lab = np.asarray(image)  # a* and b* as signed bytes, as TIFF has them
    back = np.asarray(image.convert("RGB")).astype(int)
    deep = lab.astype(np.uint16) * np.array([257, 256, 256], np.uint16)
    icc = lab ^ np.array([0, 128, 128], np.uint8)
    for data in (tiff(page(deep, 8)), tiff(page(deep, 8, order=">"), order=">"), tiff(page(icc, 9))):
        np.testing.assert_array_equal(load_rgb(data), back)


def test_subsampled_ycbcr_without_compression() -> None:
    chroma = pyvips.Image.new_from_array(PHOTO).copy(interpretation="srgb")
    ycc = np.asarray(Image.fromarray(chroma.numpy()).convert("YCbCr"))
    blocks = ycc.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3)
    light = blocks[..., 0].transpose(0, 2, 1, 3).reshape(HEIGHT // 2, WIDTH // 2, 4)
    units = np.concatenate([light, blocks[:, 0, :, 0, 1:]], axis=-1).astype(np.uint8)
    whole = page(ycc, 6, tags={530: [2, 2], 531: [1]})
    data = tiff(Page(whole.tags, [units.tobytes()]))
    assert np.abs(load_rgb(data).astype(int) - PHOTO).max() <= 8


UNREAD = {
    "signed grey": (page((RAMP // 2).astype(np.int8) - np.int8(50), 1), "8-bit signed grey"),
    "12 bits, 0 is white": (packed_page(RAMP.astype(int) * 16, 12, 0), "12-bit grey"),
    "32 bits, 0 is white": (page(RAMP.astype(np.uint32), 0), "32-bit grey"),
    "float64": (page(RAMP / 255, 1), "64-bit floating-point grey"),
    "float RGB": (page((PHOTO / 255).astype(np.float32), 2), "32-bit floating-point RGB"),
    "32-bit RGB": (page(PHOTO.astype(np.uint32), 2), "32-bit RGB"),
    "grey and alpha in planes": (page(np.dstack([RAMP, RAMP]), 1, planar=True, extra=[2]), "in planes"),
    "an unknown compression": (page(PHOTO, 2, tags={259: [34712]}), "compression 34712"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_layout_that_is_not_read_is_refused_by_name(name: str) -> None:
    one, kind = UNREAD[name]
    error = refusal(tiff(one))
    assert error.reason == "unread-format" and kind in str(error) and "Convert it" in str(error)


def test_twelve_bits_in_big_endian_files_are_refused_by_name() -> None:
    assert "12-bit grey" in str(refusal(tiff(packed_page(RAMP.astype(int) * 16, 12, 1), order=">")))


FOREIGN = {
    "JPEG XL": b"\xff\x0a" + bytes(60),
    "JPEG XL in a box": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60),
    "CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(60),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom" + bytes(60),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(60),
    "ORF": b"IIRO\x08\0\0\0" + bytes(60),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(60),
    "DNG": tiff(page(SMALL, 2, tags={254: [1], 50706: [1, 4]}, subs=[typed(0)])),
    "NEF": tiff(typed(1, SMALL, subs=(page(DEEP[..., 0], 32803, tags={254: [0]}),))),
    "raw behind a whole preview": tiff(typed(0, subs=(page(DEEP[..., 0], 32803, tags={254: [0]}),))),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_read_is_refused_by_name(name: str) -> None:
    error = refusal(FOREIGN[name])
    named = "a JPEG XL picture" if "XL" in name else "a camera raw picture"
    assert error.reason == "unread-format" and named in str(error) and "Convert it to JPEG or PNG" in str(error)


def test_suffixes_of_formats_that_are_not_read() -> None:
    assert unread_format(suffix=".NEF") == "a camera raw picture"
    assert unread_format(suffix=".jxl") == "a JPEG XL picture"
    assert unread_format(suffix=".jpg") is None and unread_format(suffix=".txt") is None


def test_heic_without_the_extra_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfd.image.formats.find_spec", lambda _: None)
    head = struct.pack(">I", 28) + b"ftypheic" + bytes(4) + b"mif1heicmiaf" + bytes(100)
    error = refusal(head)
    assert error.reason == "unread-format" and "an HEIC picture" in str(error) and "hfd[heic]" in str(error)
    assert unread_format(suffix=".HEIC") == "an HEIC picture"


def test_heic_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(np.kron(PHOTO, np.ones((4, 4, 1), np.uint8)))).save(buffer, quality=90)
    x = load_rgb(buffer.getvalue())
    assert x.shape == (4 * HEIGHT, 4 * WIDTH, 3)
    assert np.abs(x[::4, ::4].astype(int) - PHOTO).mean() < 4
    with pytest.raises(DataError, match="an HEIC picture"):
        load_rgb(buffer.getvalue()[:200])


def tga(samples: npt.NDArray[np.uint8], kind: int, descriptor: int) -> bytes:
    height, width, channels = samples.shape
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, width, height, 8 * channels, 32 | descriptor)
    return head + samples.tobytes()


@pytest.mark.parametrize("fourth", [0, 120, 255])
def test_the_fourth_byte_of_a_tga_without_attribute_bits_is_padding(fourth: int) -> None:
    bgra = np.dstack([PHOTO[..., ::-1], np.full_like(RAMP, fourth)])
    picture = read_picture(tga(bgra, 2, 0))
    np.testing.assert_array_equal(picture.rgb, PHOTO)
    assert picture.extras.alpha is None
    np.testing.assert_array_equal(load_rgb(tga(bgra, 2, 0)), PHOTO)
    stated = read_picture(tga(bgra, 2, 8)).extras.alpha
    assert (fourth == 255 and stated is None) or np.array_equal(stated, bgra[..., 3])


def test_the_second_byte_of_a_grey_tga_without_attribute_bits_is_padding() -> None:
    pair = np.dstack([RAMP, np.zeros_like(RAMP)])
    picture = read_picture(tga(pair, 3, 0))
    np.testing.assert_array_equal(picture.rgb[..., 0], RAMP)
    assert picture.extras.alpha is None


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def all_transparent() -> dict[str, bytes]:
    rgba = Image.fromarray(np.dstack([PHOTO, np.zeros_like(RAMP)]))
    return {
        "PNG": saved(rgba, "PNG"),
        "grey PNG": saved(Image.fromarray(np.dstack([RAMP, np.zeros_like(RAMP)])), "PNG"),
        "one transparent colour": saved(Image.new("RGB", (9, 9), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
        "palette": saved(Image.fromarray(RAMP).convert("P"), "PNG", transparency=bytes(256)),
        "TIFF": saved(rgba, "TIFF"),
        "WebP": saved(rgba, "WEBP", lossless=True, exact=True),
        "TGA": tga(np.dstack([PHOTO, np.zeros_like(RAMP)]), 2, 8),
    }


@pytest.mark.parametrize("name", all_transparent())
def test_a_picture_that_is_all_transparent_is_no_photograph(name: str) -> None:
    assert refusal(all_transparent()[name]).reason == "transparent"


@pytest.mark.parametrize("keep_alpha", [True, False])
@pytest.mark.parametrize("name", all_transparent())
def test_a_picture_that_is_all_transparent_gets_a_note(
    name: str, keep_alpha: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = all_transparent()[name]
    opaque = saved(Image.fromarray(np.dstack([PHOTO, RAMP])), "PNG")
    for pixels in (2**24, 10):
        monkeypatch.setattr(strips, "WHOLE_PIXELS", pixels)
        if keep_alpha or pixels > 10:
            assert ["transparent" in note.text for note in open_picture(data, keep_alpha=keep_alpha).notes] == [True]
        assert open_picture(opaque, keep_alpha=keep_alpha).notes == ()


def test_further_pages_get_a_note() -> None:
    scan = tiff(typed(2), typed(2), typed(1, SMALL), typed(4, MASK), typed(2))
    assert ["3 pages" in note.text for note in open_picture(scan).notes] == [True]
    assert open_picture(CONTAINERS["a pyramid"]).notes == () == open_picture(CONTAINERS["mask first"]).notes


XMP = b"""http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/></rdf:RDF></x:xmpmeta>"""


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def multi_picture(first: int, second: int, at: int) -> bytes:
    """The index of a multi-picture file (CIPA DC-007): two pictures of these sizes, the second at an offset."""
    body = b"MPF\0II*\0" + struct.pack("<IH", 8, 3) + struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
    body += struct.pack("<HHII", 0xB001, 4, 1, 2) + struct.pack("<HHIII", 0xB002, 7, 32, 50, 0)
    return segment(
        0xE2, body + struct.pack("<IIIHH", 0x030000, first, 0, 0, 0) + struct.pack("<IIIHH", 0, second, at, 0, 0)
    )


@pytest.mark.parametrize("xmp", [segment(0xE1, XMP), b""], ids=["gain map in XMP", "gain map by ISO 21496-1"])
def test_an_ultra_hdr_jpeg_is_its_sdr_picture(xmp: bytes) -> None:
    plain, gain = saved(Image.fromarray(PHOTO), "JPEG"), saved(Image.fromarray(RAMP[::4, ::4]), "JPEG")
    before = plain[:2] + xmp
    length = len(before) + len(multi_picture(0, 0, 0)) + len(plain) - 2
    data = before + multi_picture(length, len(gain), length - len(before) - 8) + plain[2:] + gain
    assert Image.open(io.BytesIO(data)).format == ("JPEG" if xmp else "MPO")
    by_libvips = pyvips.Image.jpegload_buffer(data).numpy()
    np.testing.assert_array_equal(load_rgb(data), by_libvips)
    np.testing.assert_array_equal(load_rgb(data), load_rgb(plain))


# The header, and a row of two blocks, of an arithmetic-coded grey JPEG of 16 x 24 px with a restart after each row:
# cjpeg -quality 98, jpegtran -arithmetic -restart 1 (libjpeg-turbo 2.1.5), of uniform noise.
ARITHMETIC_HEAD = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQIBAQEBAQIBAQECAgICAgICAgIDAwQDAwMDAwICAwQDAwQEBAQEAgMFBQQEBQQE"
    "BAT/yQALCAAYABABAREA/8wABgAQEAX/3QAEAAL/2gAIAQEAAD8A"
)
ARITHMETIC_ROW = base64.b64decode(
    "/wBj3ledfryDUIeQrqQRJD+sMcK3V09ywIHltj9qq/IH798g5gpyDjcyH7IW/ujBTpMI3mwvdL6p/vxYfHbr+xe7wqJGsHSamOh5TfKeMGeUQ4kal8UJ"
    "dciugZbKkYCgMAjHn2IagsoAkQeEHQoj6JRUGR0a9BoFr6ZcSLttetxS8BiEALbKBUVCwpxKeKtWzfo9OF+J2gpblPXX6QzsQoLnQA=="
)


def test_an_arithmetic_coded_jpeg_above_64_kib(tmp_path: Path) -> None:
    rows = 500
    head = ARITHMETIC_HEAD.replace(struct.pack(">HH", 24, 16), struct.pack(">HH", 8 * rows, 16))
    ends = [bytes([0xFF, 0xD0 + n % 8]) for n in range(rows - 1)] + [b"\xff\xd9"]
    data = head + b"".join(ARITHMETIC_ROW + end for end in ends)
    assert len(data) > 2**16
    by_libvips = pyvips.Image.jpegload_buffer(data).numpy()
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for source in (data, path):
        np.testing.assert_array_equal(load_rgb(source)[..., 0], by_libvips)
    with pytest.raises(DataError, match="expected a whole image"):
        load_rgb(data[: len(data) // 2])
