"""Decoders that read a TIFF's samples correctly (TIFF 6.0): tables of the behaviour of Pillow and libvips."""

from __future__ import annotations

from typing import Literal, TypeAlias

from hfd.image.tiff import FLOAT, PLAIN, SIGNED, UNCOMPRESSED, UNSIGNED, Directory

Reader: TypeAlias = Literal["pillow", "libvips"]

_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
_COMPRESSIONS = PLAIN | {2, 3, 4, 6, 7, 32771, 34925, 50000, 50001}


def readers_of(found: Directory) -> list[Reader]:
    """Return the decoders that read a directory's samples correctly, the preferred one first."""
    if found.compression not in _COMPRESSIONS or found.samples < _COLOURS.get(found.photometric, 99):
        return []
    readers: list[Reader] = ["pillow"] if _pillow_reads(found) else []
    return [*readers, "libvips"] if found.compression in PLAIN and _libvips_reads(found) else readers


def _pillow_reads(found: Directory) -> bool:
    """Return True if Pillow's table has this layout and its decoder follows the table.

    Pillow reads planes of any depth as 8-bit, ignores an inverted scale above 8 bits, and wrongly reads signed 8-bit
    samples as unsigned and decompressed samples as big-endian.
    """
    bits, colours = found.bits, found.photometric
    if found.compression in (6, 7):
        return bits == 8 and found.format == UNSIGNED
    if found.format in (SIGNED, FLOAT):
        in_order = found.order == "<" or found.compression == UNCOMPRESSED
        fits = (bits == 32) if found.format == FLOAT else (bits in (16, 32) and colours == 1)
        return in_order and fits and found.samples == 1 and colours in (0, 1) and not found.is_reversed
    if found.format != UNSIGNED or bits is None:
        return False
    if colours in (0, 1) and found.samples == 1:
        little = found.order == "<"
        deep = bits == 16 or (bits == 12 and little and found.compression == UNCOMPRESSED) or (bits == 32 and little)
        return bits in (1, 2, 4, 8) or (deep and colours == 1 and not (found.is_reversed and found.order == ">"))
    if colours == 6:
        is_known = found.has_full_chroma or found.compression != UNCOMPRESSED
        return bits == 8 and not found.is_planar and is_known and found.has_full_range
    if found.is_planar:
        alpha = found.samples == 4 and found.extra == (2,)
        return bits == 8 and ((colours == 2 and (found.samples == 3 or alpha)) or (colours == 5 and found.samples == 4))
    if bits == 16:
        return colours in (2, 5) and found.samples <= 4 and 1 not in found.extra and not found.is_reversed
    if bits != 8:
        return bits < 8 and colours == 3
    is_multiplied_grey = colours == 1 and 1 in found.extra
    return colours != 9 and not is_multiplied_grey and not (found.is_reversed and found.samples > 3)


def _libvips_reads(found: Directory) -> bool:
    """Return True if libvips returns the samples of this layout unchanged, or inverts grey whose 0 is white.

    libvips mixes the samples of grey with alpha, of CIELAB and of 16-bit floats in planes. It divides premultiplied
    colours by their alpha, on the right scale only for integers. Of YCbCr it only converts subsampled pictures.
    """
    bits, colours, samples = found.bits, found.photometric, found.samples
    if (found.is_planar and colours in (0, 1, 8, 9)) or (found.is_reversed and (bits or 0) > 8):
        return False
    premultiplied = 1 in found.extra
    if found.format == FLOAT:
        return colours in (0, 1) and bits in (16, 32) and samples <= 2 and not premultiplied
    if found.format == SIGNED:
        return colours == 1 and bits in (16, 32) and samples == 1
    if found.format != UNSIGNED or bits not in (8, 16, 32):
        return False
    if bits == 32:
        return colours == 1 and samples == 1
    if colours in (5, 9):
        return samples == _COLOURS[colours] and (colours == 5 or bits == 8)
    if colours == 8:
        return samples == 3 and bits == 16
    if colours == 6:
        return bits == 8 and samples == 3 and not (found.is_planar or found.has_full_chroma)
    return colours in (0, 1, 2)
