"""Sample stage 2 of large pictures in tiles on many workers, then measure the assembled pictures."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hfd.codec.codec import Codec
from hfd.errors import ConfigError
from hfd.geometry.box import Box, Tile
from hfd.geometry.plan import Unit, UnitKind, plan_units, stitched
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from hfd.metrics.original import Original
from pipelines.evaluate.decoded import add_decoded
from pipelines.evaluate.images import ImageTask, PartPlan, digest_of_pictures, write_measured, write_pictures
from pipelines.evaluate.measure import Coded, MeasureSettings, Sample, measure, samplings
from pipelines.evaluate.results import LargeImage, PartResult, UnitResult
from pipelines.runs.parts import StepPart, killed_worker


@dataclass(frozen=True)
class UnitTask:
    """A unit of a large picture's stage 2; ``sampler``: its index in the settings."""

    home: Folder
    large: LargeImage
    sampler: int
    unit: Unit
    settings: MeasureSettings
    killed: bool = False

    def __len__(self) -> int:
        return 1

    def only(self, index: int) -> UnitTask:
        del index
        return self

    def rejecting(self, indices: frozenset[int]) -> UnitTask:
        return replace(self, killed=bool(indices))

    @property
    def box(self) -> Box:
        """The rectangle that the unit samples: the core of its tile, or the whole picture."""
        return self.unit.tiles[0].core if self.unit.kind is UnitKind.TILES else Box(0, 0, *self.large.size)


def plan_large_units(home: Folder, large: Sequence[LargeImage], settings: MeasureSettings) -> list[UnitTask]:
    """Plan the units of all samplers of all large pictures. Raises :class:`ConfigError` for tiles without context."""
    tasks = []
    for one in large:
        for sampler, reach in enumerate(one.reaches):
            try:
                units = plan_units([one.size], reach, unit_pixels=settings.tile_pixels, batch_pixels=1)
            except ConfigError as error:
                raise ConfigError(f"evaluate.{error}") from error
            tasks += [UnitTask(home, one, sampler, unit, settings) for unit in units]
    return tasks


def sample_unit(part: StepPart[UnitTask], codec: Codec) -> dict[str, Any]:
    """Sample one unit; its pixels go to a file beside those of x_hat. Returns the record of a :class:`UnitResult`."""
    task = part.payload
    large = task.large
    sampling = replace(samplings(codec, task.settings)[task.sampler], grey=large.is_grey)
    if task.killed:
        return asdict(UnitResult(sampling.label, "", killed=True))
    started = time.perf_counter()
    if task.unit.kind is UnitKind.TILES:
        (tile,) = task.unit.tiles
        x_hat = _read_window(task.home, large, tile.window)
        picture = codec.sample_tile(x_hat, sampling, tile=tile, size=large.size, seed=large.seed)
    else:
        x_hat = _read_window(task.home, large, task.box)
        picture = codec.sample_tile(
            x_hat, sampling, tile=Tile(task.box, task.box), size=large.size, seed=large.seed, steps=task.unit.tiles
        )
    seconds, name = time.perf_counter() - started, f"{large.pixels}/{part.index:08d}"
    task.home.write(name, picture.tobytes())
    return asdict(UnitResult(sampling.label, hashlib.sha256(picture.data).hexdigest(), False, name, seconds))


@dataclass(frozen=True)
class LargePlan:
    """A large picture with all units sampled."""

    home: Folder
    task: ImageTask
    large: LargeImage
    units: tuple[tuple[UnitTask, UnitResult], ...]
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


def plan_large(
    tasks: Sequence[ImageTask], units: Sequence[UnitTask], records: Sequence[Mapping[str, Any]], part: PartPlan
) -> list[LargePlan]:
    """Return each large picture with the results of its units. ``tasks``: of all images; ``part``: for its settings."""
    results = [UnitResult(**{name: record[name] for name in _FIELDS if name in record}) for record in records]
    pairs = zip(units, results, strict=True)
    return [
        # Workers that stitch pictures have no GPU.
        LargePlan(
            own[0][0].home, tasks[index], own[0][0].large, own, replace(part.settings, device="cpu"), part.max_pixels
        )
        for index, group in itertools.groupby(pairs, key=lambda pair: pair[0].large.index)
        for own in [tuple(group)]
    ]


_FIELDS = tuple(UnitResult.__dataclass_fields__)


def measure_large(part: StepPart[LargePlan]) -> dict[str, Any]:
    """Stitch a large picture and measure it. Returns the record of a :class:`PartResult`."""
    plan = part.payload
    if plan.killed or any(result.killed for _, result in plan.units):
        patches = write_measured(part, {}, plan.settings.networks)
        return PartResult("", [killed_worker(plan.task.image.key)], patches).to_record()
    large = plan.large
    name, x = plan.task.load(plan.max_pixels)
    x_hat = _read_window(plan.home, large, Box(0, 0, *large.size))
    data = plan.home.read(f"files/{name}.hfd")
    coded = Coded(name, x, data, large.bpp_est, large.encode_s, x_hat, large.stage1_s)
    samples, original = [_sample(plan, sampler) for sampler in range(len(large.reaches))], Original(x)
    measured = measure(coded, samples, plan.settings, original)
    add_decoded(measured, original, plan.task.image.decoded, plan.settings)
    if plan.task.shown:
        write_pictures(plan.home, plan.task, x, measured)
    patches = write_measured(part, {plan.task.index: measured}, plan.settings.networks)
    return PartResult(digest_of_pictures(measured).hex(), [], patches).to_record()


def _sample(plan: LargePlan, sampler: int) -> Sample:
    units = [(task.box, result) for task, result in plan.units if task.sampler == sampler]
    cores = [(box, _pixels(plan.home.read(result.file), box)) for box, result in units]
    picture = stitched(*plan.large.size, cores)
    return Sample(units[0][1].label, picture, sum(result.seconds for _, result in units))


def _read_window(home: Folder, large: LargeImage, window: Box) -> RgbArray:
    """Read a window of x_hat; only its rows are read, at full width."""
    _, width = large.size
    with home.open_input(f"{large.pixels}/x_hat") as stream:
        stream.seek(3 * width * window.top)
        rows = _pixels(stream.read(3 * width * window.height), Box(window.top, 0, window.height, width))
    return rows[:, window.left : window.right]


def _pixels(data: bytes, box: Box) -> RgbArray:
    return np.frombuffer(data, np.uint8).reshape(box.height, box.width, 3)
