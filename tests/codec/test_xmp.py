"""XMP rights: the parts of a packet that are kept, from file to file.  Read by Pillow's and libvips's own parsers."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import pyvips
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import hfd
import hfd.pillow_plugin
from hfd.codec.container import XMP, unpack
from hfd.codec.picture import png, save
from hfd.codec.picture.content import Picture, read_picture
from hfd.codec.picture.save import encode_picture
from hfd.codec.picture.strips import open_picture
from hfd.codec.sections import Extras
from hfd.codec.xmp import MAX_PACKET_BYTES, MAX_RIGHTS_BYTES, rights_of, wrapped
from hfd.errors import DataError
from hfd.io.storage import Folder

NAMES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "cc": "http://creativecommons.org/ns#",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
}
X = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (24, 1))


def packet(attributes: str = "", elements: str = "", before: str = "") -> bytes:
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMES.items())
    text = (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{before}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        f'{declared}><rdf:Description rdf:about="" {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>'
        f'{" " * 200}<?xpacket end="w"?>'
    )
    return text.encode()


RIGHTS = packet(
    'xmpRights:Marked="True" photoshop:Credit="A &amp; B" xmp:CreatorTool="a camera" tiff:Orientation="6"',
    """<dc:creator><rdf:Seq><rdf:li>Zoë</rdf:li></rdf:Seq></dc:creator>
    <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">(c) 2026 &lt;Zoë&gt;</rdf:li></rdf:Alt></dc:rights>
    <dc:subject><rdf:Bag><rdf:li>keyword</rdf:li></rdf:Bag></dc:subject>
    <mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:AppliedToDimensions w="40" h="24"/></mwg-rs:Regions>
    <cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/>
    <plus:Licensor><rdf:Seq><rdf:li rdf:parseType="Resource"><plus:LicensorURL>https://example.org</plus:LicensorURL>
    </rdf:li></rdf:Seq></plus:Licensor>
    <Iptc4xmpCore:CreatorContactInfo Iptc4xmpCore:CiEmailWork="zoe@example.org"/>""",
)


def stated(data: bytes) -> dict[str, str]:
    """Each property of a packet with the text, or the attributes, below it."""
    root = ElementTree.fromstring(data)
    found = {}
    for node in root.findall(".//rdf:RDF/rdf:Description/*", NAMES):
        below = [one.text or "" for one in node.iter()] + [
            value for one in node.iter() for value in one.attrib.values()
        ]
        uri, _, name = node.tag[1:].partition("}")
        prefix = next(prefix for prefix, one in NAMES.items() if one == uri)
        found[f"{prefix}:{name}"] = " ".join(text.strip() for text in below if text.strip())
    return found


EXPECTED = {
    "Iptc4xmpCore:CreatorContactInfo": "zoe@example.org",
    "cc:license": "https://creativecommons.org/licenses/by/4.0/",
    "dc:creator": "Zoë",
    "dc:rights": "(c) 2026 <Zoë> x-default",
    "photoshop:Credit": "A & B",
    "plus:Licensor": "https://example.org Resource",
    "xmpRights:Marked": "True",
}


def in_file(data: bytes, file_format: str, image: Image.Image | None = None) -> bytes:
    held, image = io.BytesIO(), Image.fromarray(X) if image is None else image
    if file_format == "PNG":
        texts = PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", data.decode())
        image.save(held, "PNG", pnginfo=texts)
    elif file_format == "TIFF":
        image.save(held, "TIFF", tiffinfo={700: data})
    else:
        image.save(held, file_format, xmp=data)
    return held.getvalue()


# --- what is kept --------------------------------------------------------------------------------


def test_rights_stay_and_descriptions_of_pixels_go() -> None:
    rights = rights_of(RIGHTS)
    assert rights is not None and stated(rights) == stated(wrapped(rights)) == EXPECTED
    assert rights_of(rights) == rights == rights_of(wrapped(rights))
    for gone in (b"Orientation", b"Regions", b"CreatorTool", b"keyword", b"xpacket"):
        assert gone not in rights


def test_packets_in_other_forms_are_read() -> None:
    assert rights_of(packet('xmp:CreatorTool="a camera"')) is None
    text = RIGHTS.decode()
    bare = text[text.index("<rdf:RDF") : text.index("</x:xmpmeta")].encode()
    assert rights_of(bare) == rights_of(RIGHTS) == rights_of(RIGHTS + bytes(3)) == rights_of(text.encode("utf-16"))
    twice = packet(elements="<dc:rights>one</dc:rights><dc:rights>two</dc:rights>")
    assert stated(rights_of(twice) or b"") == {"dc:rights": "one"}
    foreign = packet(elements='<plus:Licensor><a:b xmlns:a="urn:a" a:c="&quot;&#10;">&#13;</a:b></plus:Licensor>')
    again = ElementTree.fromstring(rights_of(foreign) or b"").find(".//{urn:a}b")
    assert again is not None and (again.text, again.attrib) == ("\r", {"{urn:a}c": '"\n'})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "got no XML that can be read"),
        (RIGHTS[:-300], "got no XML that can be read"),
        (b"<a>&who;</a>", "got no XML that can be read (undefined entity"),
        (b'<?xml version="1.0" encoding="latin-1"?><a b="\xe9"/>', "got no XML that can be read"),
        (packet(before="<!DOCTYPE x>"), "got a document type, expected none"),
        (
            packet(before='<!DOCTYPE x [<!ENTITY e "eee">]>', elements="<dc:rights>&e;</dc:rights>"),
            "got a document type",
        ),
        (packet(before='<!DOCTYPE x SYSTEM "file:///etc/hostname">'), "got a document type"),
        (b" " * (MAX_PACKET_BYTES + 1), f"expected at most {MAX_PACKET_BYTES}"),
        (packet(elements=f"<dc:rights>{'x' * MAX_RIGHTS_BYTES}</dc:rights>"), f"expected at most {MAX_RIGHTS_BYTES}"),
        (packet(elements=f"<plus:A>{'<plus:B>' * 30}{'</plus:B>' * 30}</plus:A>"), "or more than 24 deep"),
        (packet(elements=f"<plus:A>{'<plus:B/>' * 6000}</plus:A>"), "got rights of more than 5000 elements"),
    ],
)
def test_packets_that_cannot_be_used_are_refused_and_the_picture_is_read(data: bytes, words: str) -> None:
    with pytest.raises(DataError) as caught:
        rights_of(data)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    picture = read_picture(in_file(data, "WEBP"), keep_metadata=True)
    if data.strip():
        assert [note.text for note in picture.notes] == [f"its XMP is left out: {caught.value}"]
    assert picture.extras.xmp is None


def test_deep_and_wide_packets_without_rights_cost_nothing() -> None:
    assert rights_of(b"<a>" * 100_000 + b"</a>" * 100_000) is None
    assert rights_of(packet(elements=f"<xmp:A>{'<xmp:B/>' * 100_000}</xmp:A>")) is None


# --- from a file to a file -----------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_of_each_format_has_its_rights(file_format: str) -> None:
    source = in_file(RIGHTS, file_format, Image.fromarray(np.dstack([X, X, X])))
    assert read_picture(source, keep_metadata=True).extras.xmp == rights_of(RIGHTS)
    assert read_picture(source).extras.xmp is None


def test_large_pictures_have_their_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfd.codec.picture.strips.WHOLE_PIXELS", 100)
    for file_format in ("JPEG", "PNG", "TIFF"):
        picture = open_picture(in_file(packet('xmpRights:Marked="True"'), file_format), keep_metadata=True)
        assert stated(picture.extras.xmp or b"") == {"xmpRights:Marked": "True"}
        assert not isinstance(picture, Picture)


def test_a_turned_picture_has_its_rights_and_no_orientation() -> None:
    picture = read_picture(in_file(RIGHTS, "JPEG"), keep_metadata=True)
    assert (picture.width, picture.height) == (24, 40)
    assert b"Orientation" not in (picture.extras.xmp or b"")


@pytest.mark.parametrize("file_format", ["png", "webp", "jpg"])
@pytest.mark.parametrize("by_strips", [False, True])
def test_outputs_carry_the_rights(file_format: str, by_strips: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "WHOLE_PIXELS", 100 if by_strips else 10_000)
    monkeypatch.setattr(png, "STRIP_BYTES", 500)
    extras = Extras(alpha=X, xmp=rights_of(RIGHTS))
    data = b"".join(encode_picture(Picture(np.dstack([X, X, X]), extras), file_format))
    with Image.open(io.BytesIO(data)) as image:
        assert stated(image.info["xmp"]) == EXPECTED
        image.load()
        assert image.size == (40, 24)
    by_libvips = pyvips.Image.new_from_buffer(data, "").get("xmp-data")
    assert stated(by_libvips) == EXPECTED


@pytest.mark.integration
def test_rights_go_through_a_file(model_folder: Folder, tmp_path: Path) -> None:
    model = model_folder.path
    source = tmp_path / "photo.jpg"
    source.write_bytes(in_file(RIGHTS, "JPEG", Image.fromarray(np.dstack([X, X, X]))))
    data = hfd.compress(source, model=model, keep_metadata=True)
    assert XMP in unpack(data).sections
    assert XMP not in unpack(hfd.compress(source, model=model)).sections
    decoded = hfd.decompress(data, model=model, realism=0.0, region=(3, 2, 10, 20))
    assert stated(decoded.info["xmp"]) == EXPECTED and decoded.size == (10, 20)
    decoded.save(tmp_path / "again.hfd", model=model, xmp=decoded.info["xmp"])
    with Image.open(tmp_path / "again.hfd") as again:
        assert stated(again.info["xmp"]) == EXPECTED
