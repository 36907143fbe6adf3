"""Find duplicate photographs, and photographs that are pictures of the evaluation."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from hfd.data.crops import content_hash
from hfd.data.duplicates import Hashes, first_of_equals, first_of_near, near_any, perceptual_hash
from hfd.data.feature_codes import Features, Rows
from hfd.data.near_features import first_of_near_features, near_any_features, thumbnail
from hfd.data.photo_record import with_column
from hfd.errors import DataError
from hfd.image.load import load_picture
from hfd.io.storage import Folder
from pipelines.context import Context
from pipelines.corpus.listing import Corpus
from pipelines.corpus.photo import Photo
from pipelines.corpus.read_ahead import read_ahead
from pipelines.prepare.features import PhotoFeatures, open_features, read_features
from pipelines.runs.parts import StepPart, run_parts

PICTURES_PER_PART = 64

_MESSAGES = {
    "in-evaluation": "got a picture of evaluate.data, or one near it, expected others. Leave it out of training.",
    "duplicate": "got the bytes of a photograph whose key comes first, expected others. Delete it or leave it.",
    "near-duplicate": "got a picture near one that is as large or larger, expected others. Delete it or leave it.",
    "near-features": "got features near those of a picture as large or larger, expected others. Delete it or leave it.",
}


@dataclass(frozen=True)
class ReferencePictures:
    """The evaluation's pictures: SHA-256 of their bytes, perceptual hashes, and features (P, D)."""

    contents: tuple[str, ...] = ()
    hashes: tuple[int, ...] = ()
    features: Features | None = None


@dataclass(frozen=True)
class NearFeatures:
    """The features of the photographs, and the least ``cosine`` of near ones. ``on_progress``: as of the search."""

    features: PhotoFeatures
    cosine: float
    on_progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class PicturesPlan:
    photos: Sequence[Photo]
    max_pixels: int
    hashed: bool
    embedded: bool


def hash_evaluation_pictures(context: Context, corpus: Corpus, folder: Folder, max_pixels: int) -> ReferencePictures:
    """Hash the pictures of the evaluation, and compute their features, in parts under ``folder``."""
    hashed, embedded = (context.config.prepare.near_bits is not None, context.config.prepare.near_cosine is not None)
    plans = [
        PicturesPlan(corpus.photos[start : start + PICTURES_PER_PART], max_pixels, hashed, embedded)
        for start in range(0, len(corpus.photos), PICTURES_PER_PART)
    ]
    with context.display.bar("prepare: evaluation pictures", "parts") as progress:
        results = run_parts(context.engine, folder, plans, hash_part, progress)
    return ReferencePictures(
        tuple(content for result in results for content in result["contents"]),
        tuple(int(value, 16) for result in results for value in result["hashes"]),
        read_features(folder, len(plans), len(corpus.photos)).rows if embedded else None,
    )


def hash_part(part: StepPart[PicturesPlan]) -> dict[str, Any]:
    """Hash evaluation pictures. Raises :class:`DataError` for a picture that cannot be fetched.

    A picture that cannot be decoded is compared by its bytes alone.
    """
    plan = part.payload
    contents, hashes = [], []
    with contextlib.ExitStack() as stack:
        features = stack.enter_context(open_features(part.folder, part.index, part.count)) if plan.embedded else None
        for photo, data in read_ahead(plan.photos):
            if isinstance(data, DataError):
                raise DataError(f"evaluate.data: {data}", reason=data.reason)
            contents.append(content_hash(data))
            picture = _decoded(data, photo, plan.max_pixels) if plan.hashed or plan.embedded else None
            if picture is None:
                continue
            if plan.hashed and (value := perceptual_hash(picture)) is not None:
                hashes.append(f"{value:016x}")
            if features is not None and (small := thumbnail(picture)) is not None:
                features.add(photo.key, small)
    digest = hashlib.sha256("".join([*contents, *hashes]).encode()).hexdigest()
    return {"digest": digest, "contents": contents, "hashes": hashes}


def _decoded(data: bytes, photo: Photo, max_pixels: int) -> Image.Image | None:
    try:
        return load_picture(data, name=photo.key, max_pixels=max_pixels)
    except DataError:
        return None


def deduplicate(
    table: pa.Table,
    evaluation: ReferencePictures,
    near_bits: int | None,
    *,
    among_themselves: bool,
    near: NearFeatures | None = None,
) -> pa.Table:
    """Set ``reason`` and ``message`` of photographs to drop.

    Of equal photographs the smallest key stays; of near ones the picture with most pixels, then the file with most
    bytes, then the smallest key: first of near ones by hashes, then, of those left, by features. Photographs of the
    evaluation are dropped first, so that they do not cause others to be dropped as duplicates.
    """
    by_key = np.asarray(pc.sort_indices(table, sort_keys=[("photo", "ascending")]))
    found = _reasons(table.take(by_key), evaluation, near_bits, near, among_themselves=among_themselves)
    reasons = np.empty_like(found)
    reasons[by_key] = found
    return _with_reasons(table, reasons)


def _reasons(
    table: pa.Table,
    evaluation: ReferencePictures,
    near_bits: int | None,
    near: NearFeatures | None,
    *,
    among_themselves: bool,
) -> npt.NDArray[np.object_]:
    """Return the reason of each photograph, None for those to keep. The table must be sorted by key."""
    reasons = np.array(table["reason"].to_pylist(), dtype=object)

    def drop(candidates: npt.NDArray[np.intp], which: npt.NDArray[np.bool_], reason: str) -> None:
        reasons[candidates[which]] = reason

    if evaluation.contents:
        candidates = _candidates(reasons)
        drop(candidates, _is_in(table["content"], candidates, evaluation.contents), "in-evaluation")
    if evaluation.hashes and near_bits is not None:
        candidates, hashes = _hashed(table, reasons)
        others = np.array(evaluation.hashes, dtype=np.uint64)
        drop(candidates, near_any(hashes, others, near_bits), "in-evaluation")
    if evaluation.features is not None and near is not None:
        candidates, rows = _embedded(table, reasons, near)
        which = near_any_features(near.features.rows, rows, evaluation.features, near.cosine)
        drop(candidates, which, "in-evaluation")
    if among_themselves:
        candidates = _candidates(reasons)
        codes = table["content"].take(pa.array(candidates)).combine_chunks().dictionary_encode().indices.to_numpy()
        drop(candidates, ~first_of_equals(codes.astype(np.uint64)), "duplicate")
        if near_bits is not None:
            candidates, hashes = _hashed(table, reasons)
            order = _largest_first(table, candidates)
            drop(candidates[order], ~first_of_near(hashes[order], near_bits), "near-duplicate")
        if near is not None:
            candidates, rows = _embedded(table, reasons, near)
            order = _largest_first(table, candidates)
            stays = first_of_near_features(near.features.rows, rows[order], near.cosine, near.on_progress)
            drop(candidates[order], ~stays, "near-features")
    return reasons


def _largest_first(table: pa.Table, candidates: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the order of photographs by falling number of pixels, then of bytes; then as they are, by key."""
    width, height, size = (
        table[name].take(pa.array(candidates)).to_numpy().astype(np.int64) for name in ("width", "height", "size")
    )
    order: npt.NDArray[np.intp] = np.lexsort((-size, -width * height))
    return order


def _candidates(reasons: npt.NDArray[np.object_]) -> npt.NDArray[np.intp]:
    """Return the positions of photographs without a reason to drop them."""
    return np.flatnonzero(_is_none(reasons))


def _is_none(reasons: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    return np.fromiter((reason is None for reason in reasons), dtype=bool, count=len(reasons))


def _hashed(table: pa.Table, reasons: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.intp], Hashes]:
    has_hash = pc.is_valid(table["hash"]).to_numpy()
    candidates = np.flatnonzero(_is_none(reasons) & has_hash)
    return candidates, table["hash"].take(pa.array(candidates)).to_numpy().astype(np.uint64)


def _embedded(table: pa.Table, reasons: npt.NDArray[np.object_], near: NearFeatures) -> tuple[Rows, Rows]:
    """Return the positions of photographs without a reason to drop them, and the rows of their features."""
    candidates = _candidates(reasons)
    positions, rows = near.features.find(table["photo"].take(pa.array(candidates)))
    return candidates[positions], rows


def _is_in(contents: Any, candidates: npt.NDArray[np.intp], known: Sequence[str]) -> npt.NDArray[np.bool_]:
    found = pc.is_in(contents.take(pa.array(candidates)), value_set=pa.array(known, pa.string())).to_numpy()
    return np.asarray(found, dtype=bool)


def _with_reasons(table: pa.Table, reasons: npt.NDArray[np.object_]) -> pa.Table:
    rows = zip(table["photo"].to_pylist(), table["message"].to_pylist(), reasons.tolist(), strict=True)
    messages = [f"{photo}: {_MESSAGES[reason]}" if reason in _MESSAGES else message for photo, message, reason in rows]
    return with_column(with_column(table, "reason", reasons.tolist()), "message", messages)
