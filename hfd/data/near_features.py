"""Near duplicates by the features of a network: an exact search over all pairs, in blocks.

Features find what a perceptual hash does not: crops, mirror images, strong changes of brightness. The search takes time
with the square of the number of pictures, and memory for the features alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.data.duplicates import perceptual_hash
from hfd.image.load import RgbArray

Rows = npt.NDArray[np.intp]
Features = npt.NDArray[np.float16]
"""(P, D): a row for each picture; half precision changes a cosine by less than 1e-3."""

THUMBNAIL_PX = 224
"""Side at which EfficientNet-Lite0 was trained. At 128 px the search finds fewer crops."""

BLOCK = 2048
SLACK = 1e-4
"""Bound on the error of a float32 cosine of up to 1,600 elements: pairs nearer to the limit are computed in float64."""

PAIRS_AT_ONCE = 4096


def thumbnail(picture: Image.Image) -> RgbArray | None:
    """Return the whole picture at ``THUMBNAIL_PX`` x ``THUMBNAIL_PX``, uint8 (h, w, 3); None without detail.

    Both sides are scaled apart, so that copies of one shape stay alike.
    """
    small = picture.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BICUBIC)
    return None if perceptual_hash(small) is None else np.asarray(small, dtype=np.uint8)


def first_of_near_features(
    features: Features, rows: Rows, cosine: float, on_progress: Callable[[int, int], None] | None = None
) -> npt.NDArray[np.bool_]:
    """Mark those of ``rows`` to keep: each, in order, unless its cosine with an earlier kept one reaches ``cosine``.

    No two kept rows are near, and each dropped one is near a kept one. ``on_progress`` gets the numbers of rows that
    are done and of all.
    """
    _check_cosine(cosine)
    kept = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), BLOCK):
        if on_progress is not None:
            on_progress(start, len(rows))
        block = features[rows[start : start + BLOCK]]
        own = np.flatnonzero(~_near_any(block, features, rows[kept], cosine))
        near = _is_near(block[own], block[own], cosine)
        stays = np.ones(len(own), dtype=bool)
        for row in range(len(own)):
            if stays[row]:
                stays[row + 1 :] &= ~near[row, row + 1 :]
        kept[start + own[stays]] = True
    if on_progress is not None:
        on_progress(len(rows), len(rows))
    return kept


def near_any_features(features: Features, rows: Rows, others: Features, cosine: float) -> npt.NDArray[np.bool_]:
    """Mark those of ``rows`` whose cosine with any row of ``others`` is at least ``cosine``."""
    _check_cosine(cosine)
    near = np.zeros(len(rows), dtype=bool)
    every = np.arange(len(others))
    for start in range(0, len(rows), BLOCK):
        near[start : start + BLOCK] = _near_any(features[rows[start : start + BLOCK]], others, every, cosine)
    return near


def _near_any(block: Features, others: Features, index: Rows, cosine: float) -> npt.NDArray[np.bool_]:
    """Mark the rows of a block near any of ``others[index]``, ``BLOCK`` of which are in memory as float32."""
    near = np.zeros(len(block), dtype=bool)
    for start in range(0, len(index), BLOCK):
        waiting = np.flatnonzero(~near)
        near[waiting] = _is_near(block[waiting], others[index[start : start + BLOCK]], cosine).any(axis=1)
    return near


def _is_near(a: Features, b: Features, cosine: float) -> npt.NDArray[np.bool_]:
    """Return (len(a), len(b)): the same on any machine, whatever the order in which its products add up."""
    product = _unit(a) @ _unit(b).T
    near = product >= cosine
    product -= np.float32(cosine)
    rows, columns = np.nonzero(np.abs(product, out=product) <= SLACK)
    for start in range(0, len(rows), PAIRS_AT_ONCE):
        i, j = rows[start : start + PAIRS_AT_ONCE], columns[start : start + PAIRS_AT_ONCE]
        x, y = a[i].astype(np.float64), b[j].astype(np.float64)
        lengths = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        near[i, j] = (x * y).sum(axis=1) >= cosine * lengths
    return np.asarray(near, dtype=bool)


def _unit(features: Features) -> npt.NDArray[np.float32]:
    x = features.astype(np.float32)
    unit: npt.NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return unit


def _check_cosine(cosine: float) -> None:
    if not 0.0 < cosine < 1.0:
        raise ValueError(f"cosine: got {cosine}, expected a value between 0 and 1")
