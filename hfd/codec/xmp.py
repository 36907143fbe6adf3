"""XMP rights of a picture (ISO 16684-1): a packet reduced to the creator of the picture and its terms of use.

The reduced packet has no data about pixels (orientation, regions), so it stays true when a picture is turned or cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from hfd.errors import DataError

MAX_PACKET_BYTES = 2**22
MAX_RIGHTS_BYTES = 65_000
"""Largest reduced packet, which fits with its wrapper into one segment of a JPEG."""

_MAX_DEPTH, _MAX_ELEMENTS = 24, 5000
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PREFIXES = {
    "http://www.w3.org/XML/1998/namespace": "xml",
    _RDF: "rdf",
    "adobe:ns:meta/": "x",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://ns.useplus.org/ldf/xmp/1.0/": "plus",
    "http://creativecommons.org/ns#": "cc",
}
_KEPT = {
    "dc": ("creator", "rights"),
    "photoshop": ("Copyright", "Credit"),
    "Iptc4xmpCore": ("CreatorContactInfo",),
    "xmpRights": None,
    "plus": None,
    "cc": None,
}
"""Properties that state rights, by prefix; None: all of the namespace."""

# Not by xml.sax.saxutils, which imports the whole of urllib.request, a tenth of the time to import the codec.
_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_IN_ATTRIBUTE = _IN_TEXT | str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})

_RDF_ROOT, _TOP, _ABOUT = f"{_RDF} RDF", f"{_RDF} Description", {f"{_RDF} about": ""}
_BEGIN = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_END = b'<?xpacket end="r"?>'


def rights_of(packet: bytes) -> bytes | None:
    """Reduce a packet to its rights, as ``x:xmpmeta`` in UTF-8; None if it has none.

    Raises :class:`DataError`, which names the fault, if the packet is damaged, has a document type or is above
    ``MAX_PACKET_BYTES``, or its rights are above ``MAX_RIGHTS_BYTES``.
    """
    if len(packet) > MAX_PACKET_BYTES:
        raise DataError(f"got {len(packet)} bytes, expected at most {MAX_PACKET_BYTES}")
    kept = _kept_of(packet)
    if not kept:
        return None
    properties = [kept[name] for name in sorted(kept)]
    root = _Node("adobe:ns:meta/ xmpmeta", {}, "", [_Node(_RDF_ROOT, {}, "", [_Node(_TOP, _ABOUT, "", properties)])])
    text = _written(root)
    if len(text) > MAX_RIGHTS_BYTES:
        raise DataError(f"got rights of {len(text)} bytes, expected at most {MAX_RIGHTS_BYTES}")
    return text


def wrapped(rights: bytes) -> bytes:
    """Wrap rights in the processing instructions of a packet, for a picture's file."""
    return _BEGIN + rights + _END


@dataclass
class _Node:
    """An element. Names are "namespace local"."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[_Node] = field(default_factory=list)


def _is_kept(name: str) -> bool:
    namespace, _, local = name.rpartition(" ")
    prefix = _PREFIXES.get(namespace, "")
    names = _KEPT.get(prefix, ())
    return names is None or local in names


class _Collector:
    """Collects the properties to keep of each top ``rdf:Description``; nothing else of a packet takes memory."""

    def __init__(self) -> None:
        self.kept: dict[str, _Node] = {}
        self._path: list[str] = []
        self._open: list[_Node] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if self._open:
            self._add(_Node(name, attributes))
        elif self._path[-2:] == [_RDF_ROOT, _TOP]:
            for key, value in attributes.items():
                if _is_kept(key):
                    self.kept.setdefault(key, _Node(key, {}, value))
        elif self._path[-3:-1] == [_RDF_ROOT, _TOP] and _is_kept(name):
            self._open.append(_Node(name, attributes))
            self.kept.setdefault(name, self._open[0])

    def _add(self, node: _Node) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._open) > _MAX_DEPTH:
            raise DataError(f"got rights of more than {_MAX_ELEMENTS} elements, or more than {_MAX_DEPTH} deep")
        self._open[-1].children.append(node)
        self._open.append(node)

    def end(self, _: str) -> None:
        self._path.pop()
        if self._open:
            self._open.pop()

    def text(self, data: str) -> None:
        if self._open and not self._open[-1].children:
            self._open[-1].text += data


def _kept_of(packet: bytes) -> dict[str, _Node]:
    """Return the properties to keep. Refuses a document type: it declares entities, and an XMP packet has none."""

    def refuse(*_: object) -> None:
        raise DataError("got a document type, expected none")

    found = _Collector()
    is_wide = packet.startswith((b"\xfe\xff", b"\xff\xfe"))
    # Fixed here, so that a packet cannot select one of Python's many encodings.
    parser = expat.ParserCreate("utf-16" if is_wide else "utf-8", namespace_separator=" ")
    parser.buffer_text, parser.buffer_size = True, 2**16
    parser.StartElementHandler, parser.EndElementHandler = found.start, found.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = found.text, refuse
    try:
        parser.Parse(packet if is_wide else packet.rstrip(b"\0 \r\n\t"), True)
    except expat.ExpatError as error:
        raise DataError(f"got no XML that can be read ({error})") from error
    return found.kept


def _written(root: _Node) -> bytes:
    prefixes: dict[str, str] = {}
    _collect(root, prefixes)
    declared = {f"xmlns:{prefix}": uri for uri, prefix in prefixes.items() if prefix != "xml"}
    return _element(root, prefixes, declared).encode()


def _collect(node: _Node, prefixes: dict[str, str]) -> None:
    for name in (node.name, *node.attributes):
        namespace = name.rpartition(" ")[0]
        if namespace and namespace not in prefixes:
            prefixes[namespace] = _PREFIXES.get(namespace, f"n{len(prefixes)}")
    for child in node.children:
        _collect(child, prefixes)


def _element(node: _Node, prefixes: dict[str, str], declared: dict[str, str]) -> str:
    def short(name: str) -> str:
        namespace, _, local = name.rpartition(" ")
        return f"{prefixes[namespace]}:{local}" if namespace else local

    attributes = {**declared, **{short(name): value for name, value in node.attributes.items()}}
    head = short(node.name) + "".join(
        f' {name}="{value.translate(_IN_ATTRIBUTE)}"' for name, value in attributes.items()
    )
    inner = "".join(_element(child, prefixes, {}) for child in node.children)
    inner = inner or node.text.translate(_IN_TEXT)
    return f"<{head}>{inner}</{short(node.name)}>" if inner else f"<{head}/>"
