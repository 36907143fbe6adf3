"""The comparison of a candidate with a champion: against the distances' own definitions, and at every limit."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfd.config import ClusterConfig
from hfd.config.presets import load_config
from hfd.config.promote import WEIGHTS_OF, DistanceName
from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from hfd.metrics.backbones import BackboneName
from hfd.metrics.bootstrap import Drawn, drawn
from hfd.metrics.frechet import GaussianStats, frechet_distance, kernel_distance
from hfd.metrics.of_counts import frechet_of_counts, kernel_of_counts
from hfd.metrics.set_distances import SET_DISTANCES
from hfd.metrics.table import METRICS
from hfd.report.content import ImageRow
from pipelines.engine.inline import Inline
from pipelines.evaluate.distances import (
    EFFNET,
    ORIGINAL,
    FeatureFile,
    feature_name,
    measure_distances,
    write_features,
)
from pipelines.evaluate.images import image_schema, parquet_bytes
from pipelines.evaluate.measure import Measured, PatchFeatures
from pipelines.promote.gate import Criterion, Limits, Sampled, compare, decoding, sanity, table
from pipelines.promote.results import check_measured, read_sample
from tests.support.report_rows import image_row

LIMITS = Limits(("FD-EffNet", "KD-EffNet"), max_psnr_loss_db=0.1, max_bpp_rise=0.02)
DRAWS = 50


def folder_of(
    path: Path, shift: float, *, images: int = 8, parts: int = 2, patches: int = 3, network: BackboneName = EFFNET
) -> Folder:
    """Write the features of an evaluation; those decoded differ from the original's by ``shift``."""
    rng = np.random.default_rng(0)
    folder = Folder(str(path))
    measured: list[Measured] = []
    for i in range(images):
        original = rng.normal(size=(patches, 6)).astype(np.float32)
        noise = rng.normal(size=(patches, 6)).astype(np.float32)
        features = PatchFeatures(original)
        one = Measured(
            f"a|b {i}", b"", {EFFNET: features, network: features}, [row(f"a|b {i}", *curve, i) for curve in CURVES]
        )
        for curve, far in zip(CURVES, (0.3, shift, 9.0, 9.0), strict=True):
            features.decoded[curve] = original + far * (1 + 0.1 * noise)
        measured.append(one)
    files = [FeatureFile(folder, feature_name(part, parts)) for part in range(parts)]
    for part, file in enumerate(files):
        write_features(folder, file.name, measured[part * images // parts : (part + 1) * images // parts])
    others = [FeatureFile(folder, feature_name(part, parts, network)) for part in range(parts)]
    for part, file in enumerate(others):
        write_features(folder, file.name, measured[part * images // parts : (part + 1) * images // parts], network)
    rows = [row.to_record() for one in measured for row in one.rows]
    folder.write("images.parquet", parquet_bytes(pa.Table.from_pylist(rows, schema=image_schema())))
    measure_distances(
        Inline(ClusterConfig()),
        folder,
        {EFFNET: files, network: others},
        CURVES,
        num_patches=dict.fromkeys((EFFNET, network), images * patches),
        exact_patches=1000,
        draws=DRAWS,
    )
    return folder


CURVES = (("autoencoder", "x_hat"), ("sample", "1 step"), ("sample", "2 steps"), ("webp", "x"))


def row(image: str, system: str, setting: str, i: int) -> ImageRow:
    psnr = 28.0 + i if setting == "1 step" else 0.0
    return image_row(image, system, setting, 64, 64, 128, 0.25 * (1 + 0.1 * i), None, psnr, None, 0.5, 0.1, 0.1)


@pytest.fixture(scope="module")
def by_shift(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Sampled]:
    return {shift: read_sample(folder_of(tmp_path_factory.mktemp("evaluation"), shift)) for shift in (0.5, 1.0, 2.0)}


@pytest.fixture
def sampled(by_shift: dict[float, Sampled]) -> Callable[..., Sampled]:
    """A model whose samples are so far from the originals, with other PSNR (mean 31.5 dB at 28) and bpp if wanted."""

    def make(shift: float = 0.5, *, psnr: float = 28.0, bpp: float = 0.25) -> Sampled:
        one = by_shift[shift]
        return dataclasses.replace(
            one,
            psnr={name: value + psnr - 28.0 for name, value in one.psnr.items()},
            bpp={name: value * bpp / 0.25 for name, value in one.bpp.items()},
        )

    return make


def by_name(criteria: list[Criterion]) -> dict[str, Criterion]:
    return {criterion.name: criterion for criterion in criteria}


def test_a_better_candidate_passes_everything_and_the_way_back_does_not(sampled: Callable[..., Sampled]) -> None:
    worse, better = sampled(2.0), sampled(0.5, psnr=28.05, bpp=0.251)
    assert all(criterion.passed for criterion in compare(worse, better, LIMITS))
    back = by_name(compare(better, worse, LIMITS))
    forth = by_name(compare(worse, better, LIMITS))
    assert not back["FD-EffNet"].passed and not back["KD-EffNet"].passed
    for name in ("FD-EffNet", "KD-EffNet", "PSNR dB", "bpp"):
        assert back[name].difference == pytest.approx(-(forth[name].difference or math.nan))
        assert back[name].low == pytest.approx(-(forth[name].high or math.nan), rel=0.2)


def test_the_figures_are_those_of_the_report(tmp_path: Path) -> None:
    """Distances by their own definition, differences as :mod:`hfd.metrics.bootstrap` has them."""
    folders = [folder_of(tmp_path / str(shift), shift) for shift in (2.0, 0.5)]
    champion, candidate = (read_sample(folder) for folder in folders)
    found = by_name(compare(champion, candidate, LIMITS))
    originals, theirs, ours = (
        features_in(folders[0], ORIGINAL),
        *(features_in(f, ("sample", "1 step")) for f in folders),
    )
    rows = [np.concatenate(list(side.values())) for side in (originals, theirs, ours)]
    for side, decoded in (("champion", rows[1]), ("candidate", rows[2])):
        fd = frechet_distance(GaussianStats.of(rows[0]), GaussianStats.of(decoded))
        assert getattr(found["FD-EffNet"], side) == pytest.approx(fd, rel=1e-6)
        assert getattr(found["KD-EffNet"], side) == pytest.approx(kernel_distance(rows[0], decoded), rel=1e-6)
    for name, distance in (("FD-EffNet", frechet_of_counts), ("KD-EffNet", kernel_of_counts)):
        patches = [len(one) for one in originals.values()]
        level, other = (drawn(distance(rows[0], side, patches), patches, draws=DRAWS) for side in rows[1:])
        expected = other.less(level)
        assert (found[name].difference, found[name].low, found[name].high) == pytest.approx(
            (expected.value, expected.low, expected.high), rel=1e-6
        )
    assert champion.psnr == {f"a|b {i}": 28.0 + i for i in range(8)}


def features_in(folder: Folder, curve: tuple[str, str], network: BackboneName = EFFNET) -> dict[str, np.ndarray]:
    """By image, in the order in which images are drawn."""
    found = {}
    for part in range(2):
        with np.load(io.BytesIO(folder.read(feature_name(part, 2, network)))) as arrays:
            names = json.loads(arrays["names"].tobytes())
            found |= {image: arrays[str(i)] for i, (image, *rest) in enumerate(names) if tuple(rest) == curve}
    return found


def test_the_champion_does_not_beat_itself(sampled: Callable[..., Sampled]) -> None:
    found = by_name(compare(sampled(1.0), sampled(1.0), LIMITS))
    assert {name for name, criterion in found.items() if not criterion.passed} == {"FD-EffNet", "KD-EffNet"}
    assert all(criterion.difference == pytest.approx(0.0, abs=1e-12) for criterion in found.values())


def test_better_within_the_interval_is_not_better(sampled: Callable[..., Sampled]) -> None:
    """A gain that one drawing in ten does not show."""
    champion = sampled(1.0)
    drawn = champion.distances["KD-EffNet"]
    draws = tuple(value + (1.0 if i % 10 == 0 else -1.0) for i, value in enumerate(drawn.draws))
    candidate = dataclasses.replace(champion, distances={"KD-EffNet": Drawn(drawn.value - 0.8, draws)})
    found = by_name(compare(champion, candidate, LIMITS))
    assert (found["KD-EffNet"].low, found["KD-EffNet"].high) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert not found["KD-EffNet"].passed and not found["FD-EffNet"].passed


@pytest.mark.parametrize(
    ("name", "change", "passed"),
    [
        ("PSNR dB", {"psnr": 27.91}, True), ("PSNR dB", {"psnr": 27.89}, False), ("PSNR dB", {"psnr": 40.0}, True),
        ("bpp", {"bpp": 0.2549}, True), ("bpp", {"bpp": 0.2551}, False), ("bpp", {"bpp": 0.1}, True),
        ("PSNR dB", {"psnr": math.nan}, False), ("PSNR dB", {"psnr": math.inf}, True),
        ("bpp", {"bpp": math.nan}, False),
    ],
)  # fmt: skip
def test_psnr_and_bpp_have_their_tolerances(
    sampled: Callable[..., Sampled], name: str, change: dict[str, float], passed: bool
) -> None:
    assert by_name(compare(sampled(2.0), sampled(0.5, **change), LIMITS))[name].passed is passed


@given(loss=st.floats(0.0, 2.0), limit=st.floats(0.0, 2.0))
def test_a_tolerance_is_kept_to_whatever_it_is(loss: float, limit: float) -> None:
    limits = dataclasses.replace(LIMITS, distances=(), max_psnr_loss_db=limit)
    one, other = (Sampled({"a": 1.0}, {"a": psnr}, {}) for psnr in (28.0, 28.0 - loss))
    found = by_name(compare(one, other, limits))["PSNR dB"]
    if abs(loss - limit) > 1e-6:
        assert found.passed is (loss <= limit)


@pytest.mark.parametrize(
    ("theirs", "ours", "passed", "difference"),
    [
        ((math.inf, 30.0), (42.0, 30.0), True, 0.0), ((42.0, 30.0), (math.inf, 29.0), False, -1.0),
        ((math.inf, 30.0), (math.inf, 30.0), True, 0.0), ((math.inf, math.inf), (math.inf, math.inf), True, None),
        ((math.inf, math.inf), (math.inf, 42.0), False, None), ((math.inf, 30.0), (math.inf, math.nan), False, None),
    ],
)  # fmt: skip
def test_exact_pictures_are_left_out_and_counted(
    theirs: tuple[float, ...], ours: tuple[float, ...], passed: bool, difference: float | None
) -> None:
    one, other = (Sampled({"a": 1.0, "b": 1.0}, dict(zip("ab", psnr, strict=True)), {}) for psnr in (theirs, ours))
    found = by_name(compare(one, other, dataclasses.replace(LIMITS, distances=())))["PSNR dB"]
    assert (found.passed, found.difference) == (passed, difference)
    assert found.limit.endswith(" exact left out")
    assert "∞" not in table([found]) and "nan" not in table([found])
    assert by_name(sanity(one, ()))["PSNR dB"].passed


def test_a_distance_of_a_published_protocol_decides_where_it_was_measured(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / f"{shift}", shift, network="inception") for shift in (2.0, 0.5)]
    champion, candidate = map(read_sample, folders)
    limits = dataclasses.replace(LIMITS, distances=("KID/256",))
    check_measured(candidate, limits.distances, folders[1])
    forth, back = by_name(compare(champion, candidate, limits)), by_name(compare(candidate, champion, limits))
    assert forth["KID/256"].passed and not back["KID/256"].passed
    rows = [features_in(folders[1], curve, "inception") for curve in (ORIGINAL, ("sample", "1 step"))]
    expected = kernel_distance(*(np.concatenate(list(side.values())) for side in rows))
    assert forth["KID/256"].candidate == pytest.approx(expected, rel=1e-6)
    assert "KID/256" in table(list(forth.values()))
    # 24 patches are too few for FID/256, and CLIP was not there at all.
    for name, least in (("FID/256", 128), ("CMMD/256", 2)):
        with pytest.raises(DataError) as caught:
            check_measured(candidate, (name,), folders[1])
        assert str(caught.value).startswith(f"promote.distances: got no {name} in {folders[1].uri}, expected one over")
        assert f"and {least} patches of 256 px" in str(caught.value) and "\n" not in str(caught.value)
    check_measured(Sampled({}, {}, {}), ("FD-EffNet", "KD-EffNet"), folders[1])  # a criterion, which fails


def test_the_settings_name_every_distance() -> None:
    labels = {METRICS[one.name].label: one.backbone for one in SET_DISTANCES}
    assert set(get_args(DistanceName)) == set(labels)
    assert {name: backbone for name, backbone in labels.items() if backbone != EFFNET} == WEIGHTS_OF


def test_a_distance_without_the_weights_of_its_network_is_one_line() -> None:
    promote = ["tracking.uri=http://mlflow:5000", "promote.model=m", "promote.distances=[FD-EffNet, FID/256]"]
    with pytest.raises(ConfigError) as caught:
        load_config("score", promote)
    assert "promote.distances: got FID/256 without evaluate.inception, expected the folder of its weights" in str(
        caught.value
    )
    assert load_config("score", [*promote, "evaluate.inception=weights"]).promote.distances[1] == "FID/256"
    assert load_config("score", promote[2:]).promote.model is None  # nothing is promoted


def test_other_images_are_no_comparison(sampled: Callable[..., Sampled]) -> None:
    champion, candidate = sampled(2.0), sampled(0.5)
    fewer = dataclasses.replace(candidate, bpp=dict(list(candidate.bpp.items())[1:]))
    found = by_name(compare(champion, fewer, LIMITS))
    assert (found["images"].champion, found["images"].candidate, found["images"].passed) == (8.0, 7.0, False)
    assert not found["FD-EffNet"].passed
    nothing = Sampled({}, {}, {})
    assert not any(criterion.passed for criterion in compare(champion, nothing, LIMITS))


def test_a_criterion_without_a_value_fails(sampled: Callable[..., Sampled], tmp_path: Path) -> None:
    one, other = (read_sample(folder_of(tmp_path / f"{shift}", shift, images=1, parts=1)) for shift in (2.0, 0.5))
    found = by_name(compare(one, other, LIMITS))
    assert one.distances == {} and (found["FD-EffNet"].difference, found["FD-EffNet"].passed) == (None, False)
    fewer = {name: Drawn(drawn.value, drawn.draws[1:]) for name, drawn in sampled(0.5).distances.items()}
    broken = {name: Drawn(math.nan, drawn.draws) for name, drawn in sampled(0.5).distances.items()}
    for distances in (fewer, broken):
        candidate = dataclasses.replace(sampled(0.5), distances=distances)
        assert not by_name(compare(sampled(2.0), candidate, LIMITS))["KD-EffNet"].passed


def test_the_cut_into_parts_changes_nothing(tmp_path: Path) -> None:
    """Images are drawn by name; the parts that they were measured in depend on how many there are."""
    whole, parts = (folder_of(tmp_path / str(parts), 0.5, parts=parts) for parts in (1, 8))
    assert len((parts / "features").files()) == 8 and len((whole / "features").files()) == 1
    one, other = read_sample(whole), read_sample(parts)
    assert {k: d.value for k, d in one.distances.items()} == pytest.approx(
        {k: d.value for k, d in other.distances.items()}
    )


def test_a_first_champion_is_sane(sampled: Callable[..., Sampled]) -> None:
    criteria = sanity(sampled(0.5), LIMITS.distances)
    assert all(criterion.passed for criterion in criteria)
    assert by_name(criteria)["FD-EffNet"].candidate is not None
    for psnr in (math.nan, -math.inf):
        assert [one.name for one in sanity(sampled(psnr=psnr), LIMITS.distances) if not one.passed] == ["PSNR dB"]
    empty = Sampled({}, {}, {})
    assert {one.name for one in sanity(empty, ("FD-EffNet",)) if not one.passed} == {"PSNR dB", "bpp", "images"}
    assert decoding(True).passed and not decoding(False).passed


def test_the_table_shows_every_criterion_and_the_failed_ones(sampled: Callable[..., Sampled]) -> None:
    lines = table([*compare(sampled(2.0), sampled(0.5, psnr=20.0), LIMITS), decoding(True)]).splitlines()
    assert lines[0].split() == ["criterion", "champion", "candidate", "difference", "95%", "interval", "limit"]
    names = ["FD-EffNet", "KD-EffNet", "PSNR dB", "bpp", "images", "decodes"]
    assert [line.split("  ")[0] for line in lines[2:]] == names
    assert [line.split()[-1] for line in lines[2:]] == ["pass", "pass", "FAIL", "pass", "pass", "pass"]
    assert lines[4].split()[3:] == ["23.50", "-8.00", "-8.00", "to", "-8.00", "at", "least", "-0.10", "FAIL"]
    assert "at most +0.0068" in lines[5]
