"""Pictures decoded elsewhere: matched by name, measured like ours, and what is wrong with them costs a line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hfd.config import SamplerConfig
from hfd.config.codecs import DecodedSystem
from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from hfd.metrics.distortion import psnr
from hfd.metrics.original import Original
from pipelines.context import Silent
from pipelines.evaluate.decoded import FileSize, add_decoded, list_decoded, read_sizes, stem_of
from pipelines.evaluate.measure import Coded, Measured, MeasureSettings, measure
from pipelines.evaluate.results import ExamplePictures
from pipelines.retrain import retrain
from tests.support.pictures import photograph
from tests.support.tiny_run import tiny_config, write_photographs

SETTINGS = MeasureSettings((SamplerConfig(),), 64, (), (1.0,), 1 << 20, 1 << 20)
NAMES = ("a.png", "sub/b.png", "c.png")


def write_pictures(folder: Path, names: tuple[str, ...] = NAMES, *, error: int = 0, suffix: str = "") -> Path:
    for number, name in enumerate(names):
        path = (folder / name).with_suffix(suffix or Path(name).suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        x = photograph(72, 80, seed=number).astype(int) + error
        Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)).save(path, lossless=True)
    return folder


def system(uri: object, sizes: object, **more: str) -> DecodedSystem:
    return DecodedSystem.model_validate({"name": "theirs", "uri": str(uri), "bytes": str(sizes), **more})


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def measured(name: str, seed: int = 0) -> tuple[Measured, Any]:
    x = photograph(72, 80, seed=seed)
    return measure(Coded(name, x, bytes(900), 0.1, 1.0, x, 2.0), [], SETTINGS), x


@pytest.mark.parametrize("text", ["name,size\na.png,900\nsub/b,800\nc.xyz,700\n", "bpp,Name\n1.25,a\n1.5,sub/b\n2,c\n"])
def test_pictures_are_measured_against_the_original_of_their_name(tmp_path: Path, text: str) -> None:
    theirs = write_pictures(tmp_path / "theirs", error=6, suffix=".webp")
    found = list_decoded([system(theirs, table(tmp_path / "sizes.csv", text))], NAMES)
    assert (set(found.of_original), dict(found.gaps), found.notes) == (set(NAMES), {}, ())
    image, x = measured("a.png")
    add_decoded(image, Original(x), found.of_original["a.png"], SETTINGS)
    row = image.rows[-1]
    assert (row.system, row.setting, row.num_bytes) == ("theirs", "decoded elsewhere", 900)
    assert row.values["bpp"] == 8 * 900 / (72 * 80)
    assert row.values["psnr"] == psnr(x, np.clip(x.astype(int) + 6, 0, 255).astype(np.uint8))
    assert row.values["encode_s"] is row.values["decode_s"] is row.values["bpp_est"] is None
    features = image.features["efficientnet"]
    assert features.decoded["theirs", "decoded elsewhere"].shape == features.original.shape


def test_sizes_are_those_of_a_folder_of_files(tmp_path: Path) -> None:
    for name, size in (("a.bin", 10), ("sub/b.bin", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert read_sizes(str(tmp_path)) == {"a": FileSize(10), "sub/b": FileSize(20)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"got the headings \[\], expected name and size"),
        (b"file,bytes\na,1\n", r"got the headings \['file', 'bytes'\]"),
        (b"name,size\na,1\nb\n", "line 3: got 'b', expected a new name and a size above 0"),
        (b"name,size\na,many\n", "line 2: got 'a,many'"),
        (b"name,size\na,nan\n", "line 2: got 'a,nan'"),
        (b"name,size\na,0\n", "line 2: got 'a,0'"),
        (b"name,size\na.png,1\na.jpg,2\n", "line 3: got 'a.jpg,2'"),
        (b"name,size\n\xff,1\n", "not readable as CSV"),
        (b'name,size\n"a,1\n', "not readable as CSV"),
    ],
)
def test_an_unreadable_table_of_sizes_is_one_line_and_a_gap(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "sizes.csv").write_bytes(text)
    with pytest.raises(DataError, match=message) as caught:
        read_sizes(str(tmp_path / "sizes.csv"))
    assert "\n" not in str(caught.value)
    found = list_decoded([system(write_pictures(tmp_path / "theirs"), tmp_path / "sizes.csv")], NAMES)
    assert found.of_original == {} and str(caught.value) in found.gaps["theirs"]


def test_names_that_match_nothing_are_notes_and_the_rest_is_kept(tmp_path: Path) -> None:
    theirs = write_pictures(tmp_path / "theirs", ("a.png", "sub/b.png", "extra.png"))
    found = list_decoded([system(theirs, table(tmp_path / "sizes.csv", "name,size\na,9\nextra,8\n"))], NAMES)
    assert set(found.of_original) == {"a.png"} and found.gaps == {}
    assert found.notes == (
        "evaluate.decoded: theirs, decoded elsewhere: 1 pictures have no original (extra)",
        "evaluate.decoded: theirs, decoded elsewhere: 1 pictures have no size (sub/b)",
        "evaluate.decoded: theirs, decoded elsewhere: 1 originals have no picture (c)",
    )


def test_systems_that_cannot_be_read_are_gaps(tmp_path: Path) -> None:
    sizes = table(tmp_path / "sizes.csv", "name,size\na,9\n")
    twice = write_pictures(write_pictures(tmp_path / "twice", ("a.png",)), ("a.png",), suffix=".webp")
    other = write_pictures(tmp_path / "other", ("z.png",))
    for uri, message in (
        (tmp_path / "none", "no such folder"),
        (twice, "got a.png and a.webp, expected one file of each name"),
        (other, "none of which has an original's name, expected names such as a"),
    ):
        found = list_decoded([system(uri, sizes), system(uri, sizes, name="more")], NAMES)
        assert set(found.gaps) == {"theirs", "more"} and message in found.gaps["theirs"], uri
        assert "\n" not in found.gaps["theirs"]


def test_a_picture_of_another_size_or_a_damaged_one_costs_its_row(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = write_pictures(tmp_path / "theirs", ("a.png", "c.png"))
    Image.new("RGB", (40, 36)).save(theirs / "a.png")
    (theirs / "c.png").write_bytes((theirs / "c.png").read_bytes()[:500])
    found = list_decoded([system(theirs, table(tmp_path / "sizes.csv", "name,size\na,9\nc,9\n"))], NAMES)
    image, x = measured("a.png")
    add_decoded(image, Original(x), [*found.of_original["a.png"], *found.of_original["c.png"]], SETTINGS)
    assert [row.system for row in image.rows] == ["autoencoder"]
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("hfd: a.png: theirs, decoded elsewhere: a.png: got 40 x 36 px, expected 80 x 72 px")
    assert second.startswith("hfd: a.png: theirs, decoded elsewhere: c.png: ")


def test_the_digest_follows_pictures_and_sizes(tmp_path: Path) -> None:
    theirs, sizes = write_pictures(tmp_path / "theirs"), table(tmp_path / "sizes.csv", "name,size\na,9\n")
    first = list_decoded([system(theirs, sizes)], NAMES).digest
    assert list_decoded([system(theirs, sizes)], NAMES).digest == first
    table(sizes, "name,size\na,10\n")
    second = list_decoded([system(theirs, sizes)], NAMES).digest
    write_pictures(theirs, ("a.png",), error=1)
    assert len({first, second, list_decoded([system(theirs, sizes)], NAMES).digest}) == 3


def test_a_stem_is_the_name_without_its_suffix() -> None:
    names = ("a/kodim01.png", "kodim01", "a.b/c", "x.tar.gz")
    assert [stem_of(name) for name in names] == ["a/kodim01", "kodim01", "a.b/c", "x.tar"]


def test_systems_need_originals_and_names_of_their_own(tmp_path: Path) -> None:
    one = "{name: theirs, uri: u, bytes: b}"
    for overrides, message in (
        ([f"evaluate.decoded=[{one}]"], "decoded: got systems without evaluate.data"),
        ([f"evaluate.decoded=[{one}, {one}]", "evaluate.data=d"], "expected names and settings that differ"),
        (["evaluate.decoded=[{name: sample, uri: u, bytes: b}]", "evaluate.data=d"], "got sample, which is another"),
        (["evaluate.decoded=[{name: theirs, uri: u}]", "evaluate.data=d"], "bytes: missing"),
    ):
        with pytest.raises(ConfigError, match=message):
            tiny_config("photos", str(tmp_path), *overrides)


@pytest.mark.integration
def test_a_run_has_their_rows_in_every_output(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", ("a.png", "b.png"))
    theirs = write_pictures(tmp_path / "theirs", ("a.png", "b.png"), error=4)
    few = write_pictures(tmp_path / "few", ("a.png",), error=4)
    sizes = table(tmp_path / "sizes.csv", "name,size\na,500\nb,600\n")
    photographs = write_photographs(tmp_path / "photographs")
    decoded = (
        f"[{{name: theirs, setting: quality 3, uri: {theirs}, bytes: {sizes}}}, "
        f"{{name: lost, uri: {tmp_path / 'lost'}, bytes: {sizes}}}, {{name: few, uri: {few}, bytes: {sizes}}}]"
    )
    absent = (
        "[{name: absent, encode: [no-such-program, '{input}', '{output}', '{quality}'], "
        "decode: [no-such-program, '{input}', '{output}'], smallest: 1, largest: 2, extension: x}]"
    )
    config = tiny_config(
        photographs, tmp_path / "runs", f"evaluate.data={pictures}", f"evaluate.decoded={decoded}",
        f"evaluate.external={absent}", "evaluate.baselines=[jpeg]",
    )  # fmt: skip
    done = next(one for one in retrain(config, Silent()) if one.step.name == "evaluate")
    rows = pq.read_table(io.BytesIO(done.folder.read("images.parquet"))).to_pylist()
    mine = [row for row in rows if row["system"] == "theirs"]
    assert [(row["image"], row["setting"], row["num_bytes"]) for row in mine] == [
        ("a.png", "quality 3", 500), ("b.png", "quality 3", 600),
    ]  # fmt: skip
    summary = {row["system"]: row for row in done.manifest.facts["summary"]}
    assert summary["theirs"]["psnr"] == pytest.approx(np.mean([row["psnr"] for row in mine]))
    assert summary["theirs"]["encode_s_per_mp"] is None
    assert summary["lost"]["num_images"] == summary["absent"]["num_images"] == 0
    text, page = done.folder.read("summary.txt").decode(), done.folder.read("report.html").decode()
    for said in (text, page):
        assert "quality 3" in said and "no-such-program not found; its row is empty" in said
        assert "no such folder" in said
        assert "Without b.png: 1 image" in said
    main, apart = text.split("Without b.png: 1 image\n")
    assert "few  " not in main and [line.split("  ")[0] for line in apart.splitlines()[2:5]] == [
        "autoencoder (x_hat)", "sample (stage 2)", "few",
    ]  # fmt: skip
    (recorded,) = done.manifest.facts["fewer"]
    ours = [row for row in rows if row["image"] == "a.png" and row["system"] in ("autoencoder", "sample")]
    assert [row["psnr"] for row in recorded["beside"]] == [row["psnr"] for row in ours]
    assert ExamplePictures.read(done.folder / "pictures/00000000").curves[-2:] == (
        ("theirs", "quality 3"), ("few", "decoded elsewhere"),
    )  # fmt: skip


def test_prefixes_of_s3_are_read_like_folders(s3: Folder, tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES)
    for name in NAMES:
        s3.write(f"theirs/{name}", (tmp_path / name).read_bytes())
        s3.write(f"files/{stem_of(name)}.bin", bytes(70))
    s3.write("sizes.csv", b"name,size\na,70\nsub/b,70\nc,70\n")
    for sizes in (f"{s3.uri}/files", f"{s3.uri}/sizes.csv"):
        found = list_decoded([system(f"{s3.uri}/theirs", sizes)], NAMES)
        assert (set(found.of_original), found.gaps, found.notes) == (set(NAMES), {}, ())
        assert {one.size.value for pictures in found.of_original.values() for one in pictures} == {70}
    assert found.of_original["c.png"][0].photo.read() == (tmp_path / "c.png").read_bytes()
