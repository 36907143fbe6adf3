"""Large pictures of an evaluation: stage 2 by tiles, on many workers, and their measuring once all tiles are there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hfd.codec.codec import Codec
from hfd.errors import ConfigError
from hfd.geometry.box import Box, Tile
from hfd.geometry.plan import Unit, UnitKind, plan_units, stitched
from hfd.geometry.tiles import Reach
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from pipelines.evaluate.images import PartPlan, Task, digest_of_pictures, keep_pictures, write_measured
from pipelines.evaluate.measure import Coded, MeasureSettings, Sample, judge, samplings
from pipelines.runs.parts import StepPart, killed_worker


@dataclass(frozen=True)
class TileTask:
    """A unit of one large picture's stage 2. ``large``: what stage 1 left; ``sampler``: which of the settings'."""

    home: Folder
    large: dict[str, Any]
    sampler: int
    unit: Unit
    settings: MeasureSettings
    killed: bool = False

    def __len__(self) -> int:
        return 1

    def only(self, index: int) -> TileTask:
        del index
        return self

    def rejecting(self, indices: frozenset[int]) -> TileTask:
        return replace(self, killed=bool(indices))


def plan_tiles(home: Folder, large: Sequence[dict[str, Any]], settings: MeasureSettings) -> list[TileTask]:
    """Units of all samplers of all large pictures. Raises :class:`ConfigError` where tiles have no room."""
    tasks = []
    for one in large:
        for sampler, reach in enumerate(one["reaches"]):
            height, width = one["size"]
            try:
                units = plan_units([(height, width)], Reach(**reach), unit_pixels=settings.tile_pixels, batch_pixels=1)
            except ConfigError as error:
                raise ConfigError(f"evaluate.{error}") from error
            tasks += [TileTask(home, one, sampler, unit, settings) for unit in units]
    return tasks


def sample_unit(part: StepPart[TileTask], codec: Codec) -> dict[str, Any]:
    """Sample one unit; its pixels go to a file beside those of x_hat."""
    task = part.payload
    large, sampling = task.large, samplings(codec, task.settings)[task.sampler]
    described = {"large": large["index"], "sampler": task.sampler, "label": sampling.label}
    if task.killed:
        return {**described, "digest": "", "killed": True}
    height, width = large["size"]
    started = time.perf_counter()
    if task.unit.kind is UnitKind.TILES:
        (tile,) = task.unit.tiles
        box, x_hat = tile.core, _read_window(task.home, large, tile.window)
        picture = codec.sample_tile(x_hat, sampling, tile=tile, size=(height, width), seed=large["seed"])
    else:
        box, x_hat = Box(0, 0, height, width), _read_window(task.home, large, Box(0, 0, height, width))
        picture = codec.sample_tile(
            x_hat, sampling, tile=Tile(box, box), size=(height, width), seed=large["seed"], steps=task.unit.tiles
        )
    seconds = time.perf_counter() - started
    name = f"{large['pixels']}/{part.index:08d}"
    task.home.write(name, picture.tobytes())
    return {
        **described,
        "digest": hashlib.sha256(picture.data).hexdigest(),
        "killed": False,
        "box": [box.top, box.left, box.height, box.width],
        "file": name,
        "seconds": seconds,
    }


@dataclass(frozen=True)
class LargePlan:
    """A large picture all of whose tiles are there: ``tiles`` are the results of its units."""

    home: Folder
    task: Task
    large: dict[str, Any]
    tiles: tuple[dict[str, Any], ...]
    settings: MeasureSettings
    max_pixels: int
    killed: bool = False

    def __len__(self) -> int:
        return 1

    def only(self, index: int) -> LargePlan:
        del index
        return self

    def rejecting(self, indices: frozenset[int]) -> LargePlan:
        return replace(self, killed=bool(indices))


def plan_wholes(
    home: Folder,
    tasks: Sequence[Task],
    large: Sequence[dict[str, Any]],
    tiles: Sequence[dict[str, Any]],
    part: PartPlan,
) -> list[LargePlan]:
    """Every large picture with the results of its units. ``tasks``: of all images; ``part``: for its settings."""
    by_picture: dict[int, list[dict[str, Any]]] = {one["index"]: [] for one in large}
    for tile in tiles:
        by_picture[tile["large"]].append(tile)
    return [
        LargePlan(home, tasks[one["index"]], one, tuple(by_picture[one["index"]]), part.settings, part.max_pixels)
        for one in large
    ]


def measure_large(part: StepPart[LargePlan]) -> dict[str, Any]:
    """Put a large picture together and measure it, as :func:`pipelines.evaluate.images.evaluate_part` does others."""
    plan = part.payload
    if plan.killed or any(tile["killed"] for tile in plan.tiles):
        patches = write_measured(part, {})
        return {"digest": "", "rejects": [killed_worker(plan.task.image.key)], "patches": patches}
    large = plan.large
    name, x = plan.task.image.load(plan.max_pixels)
    height, width = large["size"]
    x_hat = _read_window(plan.home, large, Box(0, 0, height, width))
    data = plan.home.read(f"files/{name}.hfd")
    coded = Coded(name, x, data, large["bpp_est"], large["encode_s"], x_hat, large["stage1_s"])
    samples = [_sample_of(plan, sampler) for sampler in range(len(large["reaches"]))]
    measured = judge(coded, samples, plan.settings)
    if plan.task.shown:
        keep_pictures(plan.home, plan.task.index, x, measured)
    patches = write_measured(part, {plan.task.index: measured})
    return {"digest": digest_of_pictures(measured).hex(), "rejects": [], "patches": patches}


def _sample_of(plan: LargePlan, sampler: int) -> Sample:
    tiles = [tile for tile in plan.tiles if tile["sampler"] == sampler]
    cores = [(box := Box(*tile["box"]), _pixels(plan.home.read(tile["file"]), box)) for tile in tiles]
    height, width = plan.large["size"]
    picture = stitched(height, width, cores)
    return Sample(tiles[0]["label"], picture, sum(tile["seconds"] for tile in tiles))


def _read_window(home: Folder, large: dict[str, Any], window: Box) -> RgbArray:
    """A window of x_hat: its rows are read whole, and no others."""
    _, width = large["size"]
    with home.open_input(f"{large['pixels']}/x_hat") as stream:
        stream.seek(3 * width * window.top)
        rows = _pixels(stream.read(3 * width * window.height), Box(window.top, 0, window.height, width))
    return rows[:, window.left : window.right]


def _pixels(data: bytes, box: Box) -> RgbArray:
    return np.frombuffer(data, np.uint8).reshape(box.height, box.width, 3)
