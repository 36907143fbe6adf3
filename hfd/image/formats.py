"""Name picture formats that cannot be read, by a file's first bytes or its suffix."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

HEIC_SUFFIXES: frozenset[str] = frozenset({".heic", ".heif", ".hif"})
_HEIC_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2", b"mif3"}
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

HEIC, RAW = "an HEIC picture", "a camera raw picture"
JXL = "a JPEG XL picture"
VIDEO = "a video"

# fmt: off
_RAW_SUFFIXES = (
    ".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".drf", ".eip", ".erf",
    ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".ptx",
    ".pxn", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".x3f",
)
# fmt: on

# fmt: off
_VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".insv", ".lrv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv",
)
# fmt: on

_SUFFIXES: Mapping[str, str] = {
    ".jxl": JXL, ".jxr": "a JPEG XR picture", ".wdp": "a JPEG XR picture", ".hdp": "a JPEG XR picture",
    ".exr": "an OpenEXR picture", ".hdr": "a Radiance picture", ".heics": "an HEIC picture sequence",
    ".svg": "an SVG drawing", ".svgz": "an SVG drawing", ".eps": "a PostScript drawing",
    ".ai": "an Illustrator drawing",
    ".psb": "a large Photoshop picture", ".xcf": "a GIMP picture", ".kra": "a Krita picture",
    ".fits": "a FITS picture", ".dcm": "a DICOM picture",
    **dict.fromkeys(_VIDEO_SUFFIXES, VIDEO), **dict.fromkeys(_RAW_SUFFIXES, RAW), **dict.fromkeys(HEIC_SUFFIXES, HEIC),
}  # fmt: skip

# Offset, bytes, name. Camera raw files that begin as a TIFF are recognised by their tags (hfd.image.tiff).
_HEADS = (
    (0, b"\xff\x0a", JXL), (0, b"\0\0\0\x0cJXL \r\n\x87\n", JXL), (0, b"II\xbc\x01", "a JPEG XR picture"),
    (0, b"v/1\x01", "an OpenEXR picture"), (0, b"#?RADIANCE", "a Radiance picture"),
    (0, b"#?RGBE", "a Radiance picture"),
    (8, b"CR\x02", RAW), (0, b"FUJIFILMCCD-RAW", RAW), (0, b"IIRO", RAW), (0, b"IIRS", RAW), (0, b"MMOR", RAW),
    (0, b"IIU\0", RAW), (0, b"FOVb", RAW), (0, b"\0MRM", RAW), (6, b"HEAPCCDR", RAW), (4, b"ftypcrx ", RAW),
    (0, b"P7\n", "a PAM picture"), (0, b"<svg", "an SVG drawing"), (0, b"\x1aE\xdf\xa3", VIDEO), (8, b"AVI ", VIDEO),
    *((4, b"ftyp" + brand, VIDEO) for brand in (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V ", b"3gp")),
)  # fmt: skip


def unread_format(*, head: bytes = b"", suffix: str = "") -> str | None:
    """Name a picture format that cannot be read (``"an HEIC picture"``); None for any other file.

    Args:
        head: the file's first 64 bytes or more; they take precedence over the suffix.
        suffix: of the file's name, ``".heic"``, in any case.
    """
    if head:
        return _by_head(head)
    found = _SUFFIXES.get(suffix.lower())
    return None if found == HEIC and reads_heic() else found


def _by_head(head: bytes) -> str | None:
    if is_heic(head):
        return None if reads_heic() else HEIC
    return next((name for at, magic, name in _HEADS if head[at : at + len(magic)] == magic), None)


def is_heic(head: bytes) -> bool:
    """Return True for the first bytes of an HEIC or HEIF file (ISO/IEC 23008-12), by its brands; False for AVIF."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    return head[8:12] in _HEIC_BRANDS and not brands & _AVIF_BRANDS


def reads_heic() -> bool:
    """Return True if the package of the extra ``heic`` is installed."""
    return find_spec("pillow_heif") is not None


def advice_for(name: str) -> str:
    """Return the advice for a format that `unread_format` named."""
    install = "Install hfd[heic], or convert" if name == HEIC else "Convert"
    return f"{install} it to JPEG or PNG, or leave it out."
