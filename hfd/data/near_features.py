"""Near duplicates by the features of a network.

Features find what a perceptual hash does not: crops, mirror images, strong changes of brightness. Few pictures are
compared with all others, in blocks; of many, those whose binary codes are near in an index. Cosines decide in both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from hfd.data.duplicates import perceptual_hash
from hfd.data.feature_codes import LEAST_COSINE, CodeIndex, Codes, Features, Rows, feature_codes
from hfd.image.load import RgbArray

THUMBNAIL_PX = 224
"""Side at which EfficientNet-Lite0 was trained. At 128 px the search finds fewer crops."""

INDEX_FROM = 4096
"""Rows to search from which an index pays."""

BLOCK = 2048
INDEX_BLOCK = 512
"""Rows that are compared with each other without the index."""

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

    Each dropped row is near a kept one. No two kept rows are near, but for pairs that the index misses, about
    :data:`hfd.data.feature_codes.MISSED` of those on the limit; it is used for ``INDEX_FROM`` rows or more and a cosine
    of at least ``LEAST_COSINE``. ``on_progress`` gets the numbers of rows that are done and of all.

    Raises:
        ModuleNotFoundError: so many rows, and no faiss.
    """
    _check_cosine(cosine)
    kept = np.zeros(len(rows), dtype=bool)
    earlier = _SearchedRows(features, len(rows), cosine)
    for start in range(0, len(rows), earlier.block):
        if on_progress is not None:
            on_progress(start, len(rows))
        index = rows[start : start + earlier.block]
        block = features[index]
        codes = earlier.codes(block)
        own = np.flatnonzero(~earlier.near_any(block, codes))
        near = _is_near(block[own], block[own], cosine)
        stays = np.ones(len(own), dtype=bool)
        for row in range(len(own)):
            if stays[row]:
                stays[row + 1 :] &= ~near[row, row + 1 :]
        own = own[stays]
        kept[start + own] = True
        earlier.add(index[own], codes if codes is None else codes[own])
    if on_progress is not None:
        on_progress(len(rows), len(rows))
    return kept


def near_any_features(features: Features, rows: Rows, others: Features, cosine: float) -> npt.NDArray[np.bool_]:
    """Mark those of ``rows`` whose cosine with any row of ``others`` is at least ``cosine``.

    With ``INDEX_FROM`` others or more, it uses the index, and raises, as :func:`first_of_near_features`.
    """
    _check_cosine(cosine)
    near = np.zeros(len(rows), dtype=bool)
    searched = _SearchedRows(others, len(others), cosine)
    searched.add(np.arange(len(others)), searched.codes(others))
    for start in range(0, len(rows), BLOCK):
        block = features[rows[start : start + BLOCK]]
        near[start : start + BLOCK] = searched.near_any(block, searched.codes(block))
    return near


class _SearchedRows:
    """Some rows of ``features``, at most ``most``, to be searched for near ones: with an index if they are many."""

    def __init__(self, features: Features, most: int, cosine: float) -> None:
        self._features, self._cosine = features, cosine
        self._index = CodeIndex(cosine) if most >= INDEX_FROM and cosine >= LEAST_COSINE else None
        self._rows = [np.empty(0, dtype=np.intp)]
        self.block = BLOCK if self._index is None else INDEX_BLOCK

    def codes(self, block: Features) -> Codes | None:
        """Return what the other methods take with these features; None without an index."""
        return None if self._index is None else feature_codes(block)

    def add(self, rows: Rows, codes: Codes | None) -> None:
        if self._index is None or codes is None:
            self._rows.append(rows)
        else:
            self._index.add(rows, codes)

    def near_any(self, block: Features, codes: Codes | None) -> npt.NDArray[np.bool_]:
        """Mark the rows of a block near any of those that were added."""
        if self._index is None or codes is None:
            return _near_any(block, self._features, np.concatenate(self._rows), self._cosine)
        near = np.zeros(len(block), dtype=bool)
        for positions, rows in self._index.candidates(codes):
            waiting = positions[~near[positions]]
            near[waiting] = _near_any(block[waiting], self._features, rows, self._cosine)
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
