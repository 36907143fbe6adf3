"""Cutting of pictures into tiles, each with the context that its core depends on."""

from __future__ import annotations

from dataclasses import dataclass

from hfd.geometry.box import Box, Tile


@dataclass(frozen=True)
class Reach:
    """Context of a pixel of the sample, px: over all evaluations of the network (``total``), and over one
    (``evaluation``). ``stride``: of the network's grid."""

    total: int
    evaluation: int
    stride: int


def least_pixels(reach: Reach) -> int:
    """Return the pixels of a square tile with three quarters of context: smaller tiles are not planned."""
    return (4 * on_grid(reach.evaluation, reach.stride)) ** 2


def cut_into_tiles(
    height: int, width: int, reach_px: int, stride: int, *, max_pixels: int, box: Box | None = None
) -> list[Tile]:
    """Tiles of at most ``max_pixels`` each, context included, by rows; none if that leaves no room for cores.

    Cores begin at multiples of ``stride`` and cut the picture, or its ``box``, whose top and left are such multiples; a
    window is its core and ``reach_px``, rounded up to the stride, on each side inside the picture. Of the possible
    grids, the one with the fewest pixels in all windows together is used.
    """
    box = Box(0, 0, height, width) if box is None else box
    margin = on_grid(reach_px, stride)
    best: tuple[list[tuple[int, int, int, int]], ...] = ()
    least = 0
    for num_columns in range(1, -(-box.width // stride) + 1):
        columns = _spans((box.left, box.right), width, on_grid(-(-box.width // num_columns), stride), margin)
        across = max(end - start for _, _, start, end in columns)
        room = max_pixels // across
        whole_height = min(height, box.bottom + margin) - max(0, box.top - margin)
        core_height = box.height if room >= whole_height else (room - 2 * margin) // stride * stride
        if core_height > 0:
            num_rows = -(-box.height // core_height)
            rows = _spans((box.top, box.bottom), height, on_grid(-(-box.height // num_rows), stride), margin)
            total = sum(row[3] - row[2] for row in rows) * sum(column[3] - column[2] for column in columns)
            if not best or total < least:
                best, least = (rows, columns), total
        if columns[0][1] - columns[0][0] <= margin:  # more columns are mostly context
            break
    return [_tile(row, column) for row in best[0] for column in best[1]] if best else []


def _spans(wanted: tuple[int, int], length: int, core: int, margin: int) -> list[tuple[int, int, int, int]]:
    """Return begin and end of each core, and of its window, along one axis."""
    return [
        (start, min(start + core, wanted[1]), max(0, start - margin), min(start + core + margin, length))
        for start in range(*wanted, core)
    ]


def _tile(row: tuple[int, int, int, int], column: tuple[int, int, int, int]) -> Tile:
    core, window = (Box(row[i], column[i], row[i + 1] - row[i], column[i + 1] - column[i]) for i in (0, 2))
    return Tile(core, window)


def on_grid(length: int, stride: int) -> int:
    return -(-length // stride) * stride


def grown(box: Box, margin: int, stride: int) -> Box:
    """Add a margin, a multiple of the stride, on each side of a box, and extend it to the stride's grid."""
    top, left = (start // stride * stride - margin for start in (box.top, box.left))
    bottom, right = (on_grid(end, stride) + margin for end in (box.bottom, box.right))
    return Box(top, left, bottom - top, right - left)
