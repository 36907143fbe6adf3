"""Near duplicates by features: what is dropped, on any number of workers, and in corpora that grow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance

from hfd.config.presets import load_config
from hfd.data.near_features import thumbnail
from hfd.errors import HfdError
from hfd.metrics.features import effnet_features
from pipelines import extras
from pipelines.prepare import features as prepare_features
from pipelines.prepare import shard
from pipelines.prepare.features import read_features
from pipelines.workflow import STEPS
from tests.support.pictures import photograph
from tests.support.snapshot_runs import check_same, kept, outputs, reasons, run, table, write
from tests.support.tiny_run import tiny_config

pytestmark = pytest.mark.integration

NEAR = ("prepare.drop_duplicates=true", "prepare.near_cosine=0.85")


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def pictures() -> dict[str, Image.Image]:
    """Six pictures that differ in colours and detail, one of them in four more guises, and two flat ones."""
    rng, found = np.random.default_rng(7), {}
    for number in range(6):
        x = photograph(200, 240, seed=40 * number)[:: (-1) ** number, :: (-1) ** (number // 2)]
        tint = rng.uniform(0.3, 1.0, 3)
        stripes = 60 * np.sin(np.arange(240) / (2 + 3 * number))[None, :, None] * rng.uniform(0, 1, 3)
        found[f"{number}.png"] = Image.fromarray(np.clip(x * tint + stripes, 0, 255).astype(np.uint8))
    first = found["0.png"]
    found["a crop.png"] = first.crop((0, 0, 216, 180))
    found["b mirrored.png"] = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found["c smaller.png"] = first.resize((180, 150), Image.Resampling.LANCZOS)
    found["d darker.png"] = ImageEnhance.Brightness(first).enhance(0.8)
    found["e flat.png"] = Image.new("RGB", (200, 200), (10, 200, 30))
    found["f flat.png"] = Image.new("RGB", (200, 200), (12, 198, 30))
    return found


def cosines(images: dict[str, Image.Image]) -> dict[tuple[str, str], float]:
    """Cosines by the network alone, in float64, without the code of the step."""
    thumbnails = {name: small for name, image in images.items() if (small := thumbnail(image)) is not None}
    x = effnet_features()(np.stack(list(thumbnails.values()))).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    names = list(thumbnails)
    return {(a, b): float(x[i] @ x[j]) for i, a in enumerate(names) for j, b in enumerate(names) if i != j}


@pytest.fixture(scope="module")
def expected() -> set[str]:
    """The pictures that a plain loop keeps, largest first."""
    images, near = pictures(), cosines(pictures())
    size = {name: (-image.width * image.height, -len(png(image)), name) for name, image in images.items()}
    stay: list[str] = []
    for name in sorted(images, key=lambda name: size[name]):
        if all(near.get((name, other), 0.0) < 0.85 for other in stay):
            stay.append(name)
    assert {f"{number}.png" for number in range(1, 6)} <= set(stay)
    assert len(images) - len(stay) >= 3  # several guises of the first are found
    return set(stay)


def folder_of(images: dict[str, Image.Image], place: Path) -> Path:
    for name, image in images.items():
        write(place, name, png(image))
    return place


@pytest.mark.parametrize("photos_per_shard", [3, 100])
def test_dropped_are_those_of_a_loop_with_the_reason_in_the_report(
    tmp_path: Path, expected: set[str], photos_per_shard: int
) -> None:
    photographs = folder_of(pictures(), tmp_path / "p")
    done = run(photographs, tmp_path / "w", *NEAR, f"prepare.photos_per_shard={photos_per_shard}")
    dropped = set(pictures()) - expected
    assert kept(done) == expected and reasons(done) == dict.fromkeys(dropped, "near-features")
    assert done.manifest.facts["reasons"] == {"near-features": len(dropped)}
    rejected = pq.read_table(io.BytesIO(done.folder.read("rejects.parquet"))).to_pylist()
    assert {row["photo"] for row in rejected} == dropped
    assert all(row["message"].startswith(f"{row['photo']}: got features near") for row in rejected)
    assert "near-features" in done.folder.read("card.html").decode()
    # Photographs without detail have no features, and all others those of the network.
    count = -(-12 // photos_per_shard)
    stored = read_features(done.folder, count, 12)
    assert sorted(stored.keys.to_pylist()) == sorted(name for name in pictures() if "flat" not in name)


def test_features_are_combined_with_hashes_and_apart_from_the_evaluation(tmp_path: Path) -> None:
    images = pictures()
    photographs = folder_of(images, tmp_path / "p")
    evaluation = folder_of({"kodim.png": images["0.png"].crop((12, 10, 240, 200))}, tmp_path / "e")
    apart = ("prepare.drop_evaluation=true", "prepare.near_cosine=0.85")
    done = run(photographs, tmp_path / "w", *apart, evaluation=evaluation)
    near = cosines(images | {"kodim.png": images["0.png"].crop((12, 10, 240, 200))})
    expected = {name for name in images if near.get((name, "kodim.png"), 0.0) >= 0.85}
    assert reasons(done) == dict.fromkeys(expected, "in-evaluation") and "0.png" in expected
    both = run(photographs, tmp_path / "w", *NEAR, "prepare.near_bits=4")
    assert set(reasons(both).values()) == {"near-duplicate", "near-features"}
    assert reasons(both)["c smaller.png"] == "near-duplicate" and reasons(both)["a crop.png"] == "near-features"


def test_a_grown_corpus_equals_one_from_nothing_and_reads_no_photograph_twice(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_features, "ROWS_PER_GROUP", 3)
    images = pictures()
    settings = (*NEAR, "prepare.photos_per_shard=5")
    late = ("3.png", "b mirrored.png")
    photographs = folder_of({name: image for name, image in images.items() if name not in late}, tmp_path / "p")
    first = run(photographs, tmp_path / "w", *settings)
    folder_of(images, photographs)
    reads.clear()
    grown = run(photographs, tmp_path / "w", *settings)
    restored = kept(grown) - kept(first)  # dropped before, and of the largest now
    assert set(late) <= set(reads) <= {*late, *restored}
    afresh = run(photographs, tmp_path / "afresh", *settings)
    check_same(grown, afresh)
    rows = [dict(zip(found.keys.to_pylist(), map(bytes, found.rows), strict=True)) for found in
            (read_features(done.folder, 3, 12) for done in (grown, afresh))]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == 10


def test_damaged_features_of_an_earlier_snapshot_are_made_again(tmp_path: Path) -> None:
    images = pictures()
    photographs = folder_of({name: images[name] for name in list(images)[:8]}, tmp_path / "p")
    first = run(photographs, tmp_path / "w", *NEAR)
    for path in first.folder.path.glob("features/*.parquet"):
        path.write_bytes(b"PAR1")
    folder_of(images, photographs)
    grown = run(photographs, tmp_path / "w", *NEAR)
    assert outputs(grown) == outputs(run(photographs, tmp_path / "afresh", *NEAR))
    assert grown.manifest.facts["copied"] == 0


def test_without_the_setting_no_features_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "open_features", None)
    photographs = folder_of(pictures(), tmp_path / "p")
    done = run(photographs, tmp_path / "w", "prepare.drop_duplicates=true")
    assert not done.folder.exists("features") and len(table(done)) == 12
    assert "near_cosine" not in done.manifest.settings


def test_a_missing_network_is_named_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("desk", [*NEAR, "cluster.kind=inline", "tracking.uri=none"])
    steps = [spec for spec in STEPS if spec.name == "prepare"]
    extras.check_installed(config, steps)
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if "efficientnet" in name else name)
    with pytest.raises(HfdError, match=r"expected by prepare.near_cosine. Run pip install 'hfd\[pipeline\]'"):
        extras.check_installed(config, steps)
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "faiss" else name)
    with pytest.raises(HfdError, match=r"^faiss: not installed, expected by prepare.near_cosine. Run pip install"):
        extras.check_installed(config, steps)
    extras.check_installed(tiny_config("p", "w", "tracking.uri=none"), steps)
