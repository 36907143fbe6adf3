"""One picture by patches: the same sample for any workers, and in one group for any patches; regions of it."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from hfd.autoencoder.make_tables import build_tables
from hfd.autoencoder.weights import read_autoencoder, write_autoencoder
from hfd.codec.codec import Codec, Request
from hfd.codec.container import unpack
from hfd.codec.patches import MapPieces, Piece, PixelSource, SamplePiece, known_in, sample_by_plan
from hfd.codec.workers import map_ahead, process_map
from hfd.diffusion.sampling import Sampling
from hfd.diffusion.weights import write_decoder
from hfd.errors import ConfigError, DataError
from hfd.geometry.box import Box
from hfd.geometry.plan import PatchLayout, Scheme, plan_four_groups, plan_picture
from hfd.image.load import RgbArray
from hfd.io.storage import Folder
from tests.support.networks import lively_elic, lively_unet
from tests.support.pictures import photograph

pytestmark = pytest.mark.integration

SIZE = (283, 350)
X_HAT = photograph(*SIZE)
PATCHES = PatchLayout(patch_pixels=190 * 190)
SMALLER = PatchLayout(patch_pixels=150 * 150)
FOUR = PatchLayout(Scheme.FOUR_GROUPS, groups_px=128)
ONE_STEP = Sampling(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A model of small networks whose outputs depend on all inputs."""
    home = Folder(str(tmp_path_factory.mktemp("lively")))
    model = lively_elic(16, 16, (8, 8))
    config = {"arch": "elic", "N": 16, "M": 16, "groups": [8, 8], "lmbda": 0.004}
    write_autoencoder(home / "autoencoder", model, build_tables(model), config)
    process = {
        "kind": "posterior-mean-flow", "times": "uniform", "times_mean": 0.0, "times_std": 1.0, "sigma_s": 0.1,
        "residual_std": 0.1,
    }  # fmt: skip
    decoder = {
        "process": process, "unet": {"patch": 2, "channels": [8, 8], "blocks": [1, 1]}, "grain": 0.5, "steps": 1,
        "finish": {"sharpen": 1.0, "chroma_noise": 2.0},
        "autoencoder": read_autoencoder(home / "autoencoder").fingerprint,
    }  # fmt: skip
    write_decoder(home / "decoder", dict(lively_unet(2, (8, 8)).named_parameters()), decoder)
    return home


@pytest.fixture(scope="module")
def codec(folder: Folder) -> Codec:
    return Codec.load(folder)


@pytest.fixture(scope="module")
def data(codec: Codec) -> bytes:
    return codec.compress(X_HAT).data


def rendered(
    codec: Codec,
    data: bytes,
    box: Box | None,
    settings: Sampling | None,
    *,
    seed: int,
    precision: str = "auto",
    layout: PatchLayout = PatchLayout(),
    map_fn: MapPieces = map,
) -> RgbArray:
    return codec.render(codec.open(unpack(data)), Request(settings, seed, box, precision, layout), map_fn=map_fn)


def worst(a: RgbArray, b: RgbArray) -> int:
    """Grey levels."""
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def sampled(codec: Codec, layout: PatchLayout, map_fn: MapPieces = map, settings: Sampling = ONE_STEP) -> RgbArray:
    return codec.sample(X_HAT, settings, seed=3, precision="float32", layout=layout, map_fn=map_fn)


@pytest.mark.parametrize(
    "settings",
    [ONE_STEP, Sampling(1, grain=True, realism=0.7), Sampling(2), Sampling(4), Sampling(4, stop=0.5)],
)
def test_in_one_group_patches_of_any_size_give_the_whole_picture(codec: Codec, settings: Sampling) -> None:
    """Up to rounding in float32: a grey level, where a value lies between two."""
    whole = sampled(codec, PatchLayout(), settings=settings)
    for layout in (PATCHES, SMALLER):
        plan = plan_picture(*SIZE, codec.reach(settings), layout)
        assert plan.num_patches > 3 or len(plan.groups[0][0].steps) > 3
        found = sampled(codec, layout, settings=settings)
        assert worst(found, whole) <= 1 and float((found != whole).mean()) < 1e-3


def in_reverse(function: SamplePiece, pieces: Iterable[Piece]) -> Iterator[RgbArray]:
    """The pieces of a group do not wait for each other."""
    taken = list(pieces)
    return reversed([function(piece) for piece in reversed(taken)])


@pytest.mark.parametrize("layout", [PATCHES, FOUR])
def test_the_sample_is_the_same_for_any_number_of_workers(codec: Codec, layout: PatchLayout) -> None:
    alone = sampled(codec, layout)
    assert np.array_equal(sampled(codec, layout, in_reverse), alone)
    for workers in (2, 3):
        with ThreadPoolExecutor(workers) as pool:
            assert np.array_equal(sampled(codec, layout, pool.map), alone)
            ahead: MapPieces = lambda function, pieces: map_ahead(pool, function, pieces, 2)  # noqa: E731
            assert np.array_equal(sampled(codec, layout, ahead), alone)


@pytest.mark.slow
def test_processes_give_the_same_and_only_finished_cores_come_back(codec: Codec, data: bytes) -> None:
    with process_map(2) as map_fn:
        for layout in (PATCHES, FOUR):
            assert np.array_equal(sampled(codec, layout, map_fn), sampled(codec, layout))
            settings = Sampling(1, realism=0.6)
            there = rendered(codec, data, None, settings, seed=1, layout=layout, map_fn=map_fn)
            assert np.array_equal(there, rendered(codec, data, None, settings, seed=1, layout=layout))
        with pytest.raises(DataError, match=r"^workers: got a killed process") as caught:
            list(map_fn(_die, [_piece(codec)]))
    assert caught.value.reason == "worker-killed"


def _die(piece: Piece) -> RgbArray:
    del piece
    os._exit(1)


def _piece(codec: Codec) -> Piece:
    (patch, *_), *_ = plan_picture(*SIZE, codec.reach(ONE_STEP), PATCHES).groups
    return Piece(patch, SIZE, PixelSource(X_HAT).cut(patch.tile.window), (), ONE_STEP, 0, "float32")


def test_pickled_pieces_are_small(codec: Codec, data: bytes) -> None:
    """The pickled function is the name of a folder, a piece its window, and the result the core."""
    assert len(pickle.dumps(codec.sample_piece)) < 1000
    assert pickle.loads(pickle.dumps(codec)).decoder is not None
    piece = _piece(codec)
    assert len(pickle.dumps(piece)) < 3 * piece.patch.tile.window.pixels + 2000
    core = codec.sample_piece(piece)
    assert core.dtype == np.uint8 and core.size == 3 * piece.patch.tile.core.pixels
    box = piece.patch.tile.window
    cells = (box.height // 16 + 26) * (box.width // 16 + 26)
    assert len(pickle.dumps(codec.open(unpack(data)).cut(box))) < 16 * 4 * cells


def test_a_codec_of_no_folder_does_not_travel(codec: Codec) -> None:
    with pytest.raises(TypeError, match=r"^codec: got one without a folder, expected one of Codec.load"):
        pickle.dumps(Codec(codec.autoencoder, codec.decoder))


def test_few_pieces_are_under_way_at_once() -> None:
    given = 0

    def pieces() -> Iterator[int]:
        nonlocal given
        for number in range(20):
            given += 1
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = map_ahead(pool, lambda number: number * 2, pieces(), 4)  # type: ignore[arg-type, return-value]
        assert next(results) == 0 and given == 4
        assert list(results) == [2 * number for number in range(1, 20)]


def test_a_failure_in_a_piece_is_the_callers(codec: Codec) -> None:
    stopped = threading.Event()

    def fail(piece: Piece) -> RgbArray:
        del piece
        stopped.set()
        raise DataError("broken")

    with ThreadPoolExecutor(2) as pool, pytest.raises(DataError, match=r"^broken$"):
        list(map_ahead(pool, fail, [_piece(codec)] * 9, 4))
    assert stopped.is_set()


def test_workers() -> None:
    with pytest.raises(ConfigError, match=r"^workers: got 0, expected at least 1$"), process_map(0):
        pass
    with process_map(1) as map_fn:
        assert map_fn is map


REGIONS = [Box(0, 0, 1, 1), Box(100, 33, 71, 150), Box(282, 349, 1, 1), Box(0, 0, *SIZE)]


@pytest.mark.parametrize("box", REGIONS)
@pytest.mark.parametrize("settings", [None, ONE_STEP, Sampling(3, grain=True), Sampling(1, realism=0.0)])
def test_a_region_is_that_of_the_whole_picture(codec: Codec, data: bytes, box: Box, settings: Sampling | None) -> None:
    """To a grey level: x_hat may differ by one where it lies between two, and the sample follows it."""
    x_hat = codec.reconstruct(data)
    whole = x_hat if settings is None else codec.sample(x_hat, settings, seed=9, precision="float32")
    for layout in (PatchLayout(), PATCHES):
        found = rendered(codec, data, box, settings, seed=9, precision="float32", layout=layout)
        assert worst(found, whole[box.top : box.bottom, box.left : box.right]) <= 1


@pytest.mark.parametrize("box", REGIONS)
def test_a_region_in_four_groups_is_that_of_the_whole_picture(codec: Codec, data: bytes, box: Box) -> None:
    whole = codec.sample(codec.reconstruct(data), ONE_STEP, seed=9, precision="float32", layout=FOUR)
    found = rendered(codec, data, box, ONE_STEP, seed=9, precision="float32", layout=FOUR)
    assert worst(found, whole[box.top : box.bottom, box.left : box.right]) <= 1


def test_a_region_computes_only_its_dependencies(codec: Codec, data: bytes) -> None:
    seen: list[int] = []

    class Spy(PixelSource):
        def cut(self, box: Box) -> RgbArray:
            seen.append(box.pixels)
            return super().cut(box)

    reach = codec.reach(ONE_STEP).total
    codec.render(Spy(codec.reconstruct(data)), Request(ONE_STEP, box=Box(100, 100, 20, 20)))
    assert 0 < sum(seen) <= (20 + 2 * (reach + 8)) ** 2 < SIZE[0] * SIZE[1]


def test_small_files_decode_to_the_bits_of_both_stages_one_by_one(codec: Codec, data: bytes) -> None:
    whole = codec.sample(codec.reconstruct(data), ONE_STEP, seed=9)
    assert np.array_equal(rendered(codec, data, None, ONE_STEP, seed=9), whole)


@pytest.mark.parametrize("box", [Box(0, 0, 0, 5), Box(-1, 0, 5, 5), Box(0, 300, 5, 51), Box(283, 0, 1, 1)])
@pytest.mark.parametrize("settings", [None, ONE_STEP])
def test_a_region_that_is_not_in_the_picture_is_refused(
    codec: Codec, data: bytes, box: Box, settings: Sampling | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        rendered(codec, data, box, settings, seed=0)
    assert str(caught.value) == (
        f"region: got {box.left},{box.top},{box.width},{box.height}, expected x,y,w,h within 350 x 283 px"
    )


def test_later_groups_continue_the_pixels_of_earlier_ones(codec: Codec) -> None:
    """The known pixels of a piece are the sample itself, everywhere around its core that earlier groups finished."""
    plan = plan_four_groups(*SIZE, codec.reach(ONE_STEP).stride, core_px=96, context_px=40)
    pieces: list[Piece] = []

    def spy(function: SamplePiece, group: Iterable[Piece]) -> Iterator[RgbArray]:
        taken = list(group)
        pieces.extend(taken)
        return map(function, taken)

    sample = sample_by_plan(PixelSource(X_HAT), plan, ONE_STEP, codec.sample_piece, seed=0, map_fn=spy)
    finished = np.zeros(SIZE, bool)
    told = 0
    for group in plan.groups:
        before, group_pieces = finished.copy(), [piece for piece in pieces if piece.patch in group]
        for piece in group_pieces:
            window, core = piece.patch.tile.window, piece.patch.tile.core
            known = known_in(piece)
            there = before[window.top : window.bottom, window.left : window.right]
            if known is None:
                assert not there.any()
            else:
                assert np.array_equal(known[0, 3] == 1.0, there)
                pixels = np.rint((known[0, :3].transpose(1, 2, 0) + 1.0) * 127.5).astype(np.uint8)
                assert np.array_equal(
                    pixels[there], sample[window.top : window.bottom, window.left : window.right][there]
                )
                told += 1
            assert not core.within(window).cut(torch.from_numpy(there)).any()
            finished[core.top : core.bottom, core.left : core.right] = True
    assert finished.all() and told > len(pieces) // 2


def test_known_pixels_reach_the_network(codec: Codec) -> None:
    """Otherwise four groups would be one."""
    four, one = sampled(codec, FOUR), sampled(codec, PATCHES)
    assert worst(four, one) > 3
    assert worst(four[:128, :128], one[:128, :128]) <= 1  # of the first group, in whose reach nothing is known


def test_overlaps_take_the_seam_out(codec: Codec) -> None:
    """The steps between the two sides of a border are those that the whole picture has there; without, they are not."""
    steps = {}
    whole = sampled(codec, PATCHES).astype(float)
    for overlap_px in (0, 32):
        plan = plan_four_groups(*SIZE, codec.reach(ONE_STEP).stride, core_px=128, overlap_px=overlap_px)
        found = sample_by_plan(PixelSource(X_HAT), plan, ONE_STEP, codec.sample_piece, seed=3, precision="float32")
        differs = found - whole
        steps[overlap_px] = float(np.abs(differs[:, 128] - differs[:, 127]).mean())
    assert steps[32] < 0.25 * steps[0]


def test_realism_in_four_groups_mixes_the_sample_of_full_realism(codec: Codec) -> None:
    full, half = sampled(codec, FOUR), sampled(codec, FOUR, settings=Sampling(1, realism=0.5))
    assert worst(half, np.rint(0.5 * full + 0.5 * X_HAT.astype(np.float32)).astype(np.uint8)) == 0
    assert worst(half, full) > 3


def test_progress_counts_patches(codec: Codec) -> None:
    told: list[tuple[int, int]] = []
    codec.sample(X_HAT, ONE_STEP, seed=0, layout=FOUR, on_progress=lambda done, of: told.append((done, of)))
    assert told == [(done, 9) for done in range(1, 10)]


def test_a_folder_is_loaded_once_a_process(folder: Folder) -> None:
    one, other = (pickle.loads(pickle.dumps(Codec.load(folder))) for _ in range(2))
    assert one is other


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (131, 2)])
def test_the_smallest_pictures_go_through_both_schemes(codec: Codec, size: tuple[int, int]) -> None:
    data = codec.compress(photograph(300, 300)[: size[0], : size[1]]).data
    whole = codec.sample(codec.reconstruct(data), ONE_STEP, seed=2, precision="float32")
    for layout in (PatchLayout(), FOUR):
        found = rendered(codec, data, None, ONE_STEP, seed=2, precision="float32", layout=layout)
        assert found.shape == (*size, 3)
        if layout != FOUR or max(size) <= FOUR.groups_px:
            assert worst(found, whole) <= 1
