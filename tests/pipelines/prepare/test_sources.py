"""The same photographs loose, in Parquet files, by lists, and from several sources; fields and conditions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hfd.config.presets import load_config
from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from pipelines.corpus.listing import list_corpus
from pipelines.corpus.sources import list_sources
from tests.support.command_line import Ended, Hfd
from tests.support.packs import parquet_of, tar_of
from tests.support.snapshot_runs import run, write
from tests.support.tiny_run import jpeg, tiny_config, tiny_overrides

pytestmark = pytest.mark.integration

PICTURES = {f"{number}.jpg": jpeg(150 + 3 * number, 190 - 3 * number, seed=number) for number in range(8)}
ALLOWED = ("prepare.max_reject_share=0.9", "prepare.validation_share=0")


def prepare(hfd: Hfd, workspace: Path, *settings: str) -> Ended:
    return hfd("prepare", "-c", "demo", *tiny_overrides("unused", workspace, "data.uri=null", *ALLOWED, *settings))


def rows(workspace: Path) -> dict[str, dict[str, object]]:
    (path,) = workspace.glob("prepare/*/photos.parquet")
    return {row["photo"]: row for row in pq.read_table(io.BytesIO(path.read_bytes())).to_pylist()}


def test_loose_packed_and_listed_photographs_have_the_same_crops(tmp_path: Path, hfd: Hfd) -> None:
    for name, data in PICTURES.items():
        write(tmp_path / "loose", name, data)
    names, values = list(PICTURES), list(PICTURES.values())
    write(tmp_path, "x.parquet", parquet_of({"image": values, "name": names}))
    structs = [{"bytes": data, "path": name} for name, data in PICTURES.items()]
    write(tmp_path / "many", "x.parquet", parquet_of({"image": structs[:3]}))
    write(tmp_path / "many", "y.parquet", parquet_of({"image": structs[3:]}))
    write(tmp_path, "x.tar", tar_of(PICTURES.items()))
    write(tmp_path, "list.csv", "\n".join(["uri,size", *(f"loose/{name}," for name in names)]).encode())
    write(
        tmp_path, "list.jsonl", b"\n".join(json.dumps({"path": f"{tmp_path}/loose/{name}"}).encode() for name in names)
    )
    digests = []
    for index, uri in enumerate(["loose", "x.parquet", "many", "x.tar", "list.csv", "list.jsonl"]):
        ended = prepare(hfd, tmp_path / f"w{index}", f"data.uri={tmp_path / uri}")
        assert ended.code == 0, ended.err
        found = rows(tmp_path / f"w{index}").values()
        digests.append(sorted((row["content"], row["split"], row["digest"]) for row in found))
        assert "metadata.caption" not in next(iter(found))
    assert all(digest == digests[0] for digest in digests) and len(digests[0]) == 8


def test_fields_reach_the_photo_table_and_conditions_leave_photographs_out(tmp_path: Path, hfd: Hfd) -> None:
    members: list[tuple[str, bytes]] = []
    for number, (name, data) in enumerate(PICTURES.items()):
        fields = {"licence": "cc0" if number % 2 else "nd", "score": number}
        members += [(name, data), (name.replace("jpg", "json"), json.dumps(fields).encode())]
    write(tmp_path / "p", "x.tar", tar_of(members))
    settings = ("data.metadata=[licence, score]", "data.where=[[licence, in, [cc0, cc-by]], [score, '>=', 3]]")
    ended = prepare(hfd, tmp_path / "w", f"data.uri={tmp_path / 'p'}", *settings, "prepare.max_reject_share=0")
    assert ended.code == 0, ended.err
    found = rows(tmp_path / "w")
    assert {key for key, row in found.items() if row["reason"] is None} == {f"x.tar/{n}.jpg" for n in (3, 5, 7)}
    assert {row["reason"] for row in found.values()} == {None, "filtered"}
    told = ended.out + ended.err
    assert "left out 5 of 8 photographs: 5 filtered (x.tar/0.jpg, x.tar/1.jpg, ...). See" in told
    assert found["x.tar/0.jpg"]["message"] == (
        "x.tar/0.jpg: got licence 'nd', expected in ('cc0', 'cc-by') by data.where"
    )
    assert found["x.tar/1.jpg"]["message"] == "x.tar/1.jpg: got score '1', expected >= 3 by data.where"
    for setting, words in (
        ("data.where=[[license, '==', cc0]]", "data.where: got none of 8 photographs, expected some. The first: x.tar"),
        ("data.metadata=[licence, capton]", "no photograph has the field capton, which data.metadata names"),
    ):
        misspelt = prepare(hfd, tmp_path / "w3", f"data.uri={tmp_path / 'p'}", setting)
        assert words in misspelt.out + misspelt.err and misspelt.code == (2 if "where" in setting else 0)
    assert found["x.tar/5.jpg"]["metadata.licence"] == "cc0" and found["x.tar/5.jpg"]["metadata.score"] == "5"
    # The fields of an unchanged pack are copied with its crops.
    write(
        tmp_path / "p",
        "y.tar",
        tar_of([("9.jpg", jpeg(160, 170, seed=99)), ("9.json", b'{"licence": "cc0", "score": 9}')]),
    )
    config = tiny_config(tmp_path / "p", tmp_path / "w", *ALLOWED, *settings)
    ended = prepare(hfd, tmp_path / "w", f"data.uri={tmp_path / 'p'}", *settings, "prepare.max_reject_share=0")
    tables = [pq.read_table(path).to_pylist() for path in sorted((tmp_path / "w").glob("prepare/*/photos.parquet"))]
    grown = {row["photo"]: row for row in max(tables, key=len)}
    assert len(grown) == 9 and grown["x.tar/5.jpg"]["metadata.score"] == "5" and config.data.where


def test_lists_keep_fields_and_name_entries_that_cannot_be_read(tmp_path: Path, hfd: Hfd) -> None:
    for name, data in PICTURES.items():
        write(tmp_path / "loose", name, data)
    lines = [{"uri": f"loose/{name}", "caption": f"of {name}"} for name in PICTURES]
    lines += [{"uri": "loose/gone.jpg"}, {"uri": "https://example.org/a.jpg"}, {"uri": "loose/0.jpg"}]
    write(tmp_path, "list.jsonl", "\n".join(map(json.dumps, lines)).encode())
    uri = f"data.uri={tmp_path / 'list.jsonl'}"
    ended = prepare(hfd, tmp_path / "w", uri, "data.metadata=[caption]", "prepare.max_reject_share=0.2")
    assert ended.code == 0 and "skipped 1: 1 further name" in ended.out + ended.err
    assert "left out 2 of 10 photographs: 1 bad-uri (https://example.org/a.jpg), 1 missing (loose/gone.jpg)" in (
        ended.out + ended.err
    )
    found = rows(tmp_path / "w")
    assert found["loose/3.jpg"]["metadata.caption"] == "of 3.jpg"
    faults = {key: row["reason"] for key, row in found.items() if row["reason"]}
    assert faults == {"loose/gone.jpg": "missing", "https://example.org/a.jpg": "bad-uri"}
    strict = prepare(hfd, tmp_path / "w2", uri, "prepare.max_reject_share=0.1")
    assert strict.code == 2 and "2 of 10 photographs" in strict.err and strict.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.jsonl", '{"uri": "a.jpg"}\n{no\n', "got line 2 that cannot be read"),
        ("l.jsonl", "[1]\n", "got line 1 that cannot be read"),
        ("l.csv", "name,size\na.jpg,3\n", r"got line 2 without a URI \(name, size\)"),
        ("l.csv", "", "got no pictures"),
        ("l.csv", b"uri\n\xff\xfe\n".decode("latin-1"), "got a list that is not UTF-8, expected UTF-8"),
        ("l.jsonl", b"\xff\xfe".decode("latin-1"), "got a list that is not UTF-8, expected UTF-8"),
        ("l.csv", "uri,caption\na.jpg,a, b\n", "got line 2 of 3 values, expected at most 2 as in its header"),
        ("l.csv", 'uri,caption\na.jpg,x\n\n"b.jpg,x\n', r"got line \d that cannot be read \(unexpected end"),
        ("l.tsv", "file\tcaption\na.jpg\ta\n", r"got line 2 without a URI \(file, caption\)"),
        ("l.txt", "a.jpg\n", r"got a file, expected a folder, a tar or Parquet file, or a list \(.csv, .jsonl"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_by_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    write(tmp_path, name, text.encode("latin-1"))
    with pytest.raises(DataError, match=words) as error:
        list_corpus(str(tmp_path / name), setting="data.uri")
    assert "\n" not in str(error.value)


HEADERS = {
    "plain.csv": b"uri,caption\n%s,c\n",
    "windows.csv": b"\xef\xbb\xbfuri;caption\r\n%s;c\r\n",
    "tabs.csv": b"uri\tcaption\n%s\tc\n",
    "tabs.tsv": b"caption\tURI\nc\t%s\n",
    "spaced.csv": b' Path , caption\n"%s",c\n',
    "capitals.jsonl": b'{"URL": "%s", "caption": "c"}\n',
    "one.csv": b"File_Name\n%s\n",
    "blank.csv": b"uri,caption\n\n%s,c\n\n",
    "sized.csv": b"uri,Size\n%s,3.0\n",
    "short.csv": b"uri,caption\n%s\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_lists_as_spreadsheets_and_other_programs_write_them(tmp_path: Path, name: str) -> None:
    write(tmp_path, "d/a b.jpg", b"abc")
    write(tmp_path, name, HEADERS[name] % b"d/a b.jpg")
    (photo,) = list_corpus(str(tmp_path / name), setting="data.uri", columns=["caption"]).photos
    assert (photo.key, photo.read(), photo.fault) == ("d/a b.jpg", b"abc", "")
    assert dict(photo.fields) == ({} if name in ("one.csv", "sized.csv", "short.csv") else {"caption": "c"})


def test_a_list_on_s3_takes_versions_from_the_list_or_the_server(s3: Folder, tmp_path: Path, reads: list[str]) -> None:
    for name, data in PICTURES.items():
        (s3 / "loose").write(name, data)
    tags = {photo.key: photo.stamp for photo in list_corpus(f"{s3.uri}/loose", setting="data.uri").photos}
    lines = [{"uri": f"loose/{name}", "size": len(data), "etag": tags[name]} for name, data in PICTURES.items()]
    lines[1] |= {"etag": "other"}
    lines[2] = {"uri": f"{s3.uri}/loose/2.jpg"}
    lines += [{"uri": "loose/gone.jpg"}]
    s3.write("list.jsonl", "\n".join(map(json.dumps, lines)).encode())
    done = run(f"{s3.uri}/list.jsonl", tmp_path / "w")
    assert done.manifest.facts["reasons"] == {"changed": 1, "missing": 1} and done.manifest.facts["photos"] == 9
    assert len(reads) == 9


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_list_names_files_as_they_are(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    place = Folder(str(tmp_path / "p")) if kind == "local" else request.getfixturevalue("s3")
    names = ["a b#1.jpg", "100%.jpg", "d/ü.jpg", "d e/f%20g.jpg"]
    for name, data in zip(names, PICTURES.values(), strict=False):
        parent, _, last = name.rpartition("/")
        (place / parent.replace(" ", "%20" if kind == "s3" else " ") if parent else place).write(last, data)
    lines = [{"uri": name} for name in names]
    place.write("x y#2.jpg", PICTURES["7.jpg"])
    absolute = f"{place.uri}/" + ("x%20y%232.jpg" if kind == "s3" else "x y#2.jpg")
    place.write("l.jsonl", "\n".join(map(json.dumps, [*lines, {"uri": absolute}])).encode())
    photos = list_corpus(f"{place.uri}/l.jsonl", setting="data.uri").photos
    assert [photo.key for photo in photos] == sorted([*names, absolute])
    data = dict(zip(names, PICTURES.values(), strict=False)) | {absolute: PICTURES["7.jpg"]}
    assert all(photo.read() == data[photo.key] for photo in photos)


def test_several_sources_have_names_shares_and_a_table_in_the_card(tmp_path: Path, hfd: Hfd) -> None:
    for name, data in PICTURES.items():
        write(tmp_path / "loose", name, data)
    write(tmp_path / "packed", "x.tar", tar_of((f"{n}.jpg", jpeg(160, 170, seed=100 + n)) for n in range(12)))
    sources = f"[{{uri: {tmp_path}/loose}}, {{uri: {tmp_path}/packed, share: 0.5, name: second}}]"
    ended = prepare(hfd, tmp_path / "w", f"data.sources={sources}")
    assert ended.code == 0, ended.err
    found = rows(tmp_path / "w")
    packed = {key for key in found if key.startswith("second/x.tar/")}
    assert {key for key in found if key.startswith("loose/")} == {f"loose/{name}" for name in PICTURES}
    assert 0 < len(packed) < 12 and len(found) == 8 + len(packed)
    (card,) = (tmp_path / "w").glob("prepare/*/card.html")
    text = card.read_text()
    assert "<h2>Sources</h2>" in text and "<td>second</td>" in text and f"<td>{len(packed)}</td>" in text
    more = prepare(hfd, tmp_path / "w2", f"data.sources={sources.replace('0.5', '0.9')}")
    assert more.code == 0 and packed <= set(rows(tmp_path / "w2"))


def test_ignored_names_are_left_out_of_every_kind_of_source(tmp_path: Path, hfd: Hfd) -> None:
    for name, data in PICTURES.items():
        write(tmp_path / "loose", name, data)
        write(tmp_path / "loose/raw", name, data)
    names = [*PICTURES, *(f"raw/{name}" for name in PICTURES)]
    values = [*PICTURES.values(), *PICTURES.values()]
    write(tmp_path, "x.tar", tar_of(zip(names, values, strict=True)))
    structs = [{"bytes": data, "path": name} for name, data in zip(names, values, strict=True)]
    write(tmp_path, "x.parquet", parquet_of({"image": structs}))
    write(tmp_path, "list.csv", "\n".join(["uri", *(f"loose/{name}" for name in names)]).encode())
    digests = []
    for index, uri in enumerate(["loose", "x.tar", "x.parquet", "list.csv", "loose/**"]):
        settings = (f"data.uri={tmp_path / uri}", "data.ignore=[raw/, '[0]*', '0*', '1.jp{e,}g']")
        ended = prepare(hfd, tmp_path / f"w{index}", *settings)
        assert ended.code == 0 and "skipped 10: 10 ignored files (" in ended.out + ended.err, ended.err
        found = rows(tmp_path / f"w{index}").values()
        digests.append(sorted((row["content"], row["digest"]) for row in found))
    assert all(digest == digests[0] for digest in digests) and len(digests[0]) == 6
    for uri in ("loose", "list.csv"):
        ended = prepare(hfd, tmp_path / "w9", f"data.uri={tmp_path / uri}", "data.ignore=['*']")
        assert ended.code == 2 and "(skipped 16: 16 ignored files" in ended.complaint
        assert ended.complaint.endswith("expected some. Correct data.ignore")
    ended = prepare(hfd, tmp_path / "w9", f"data.uri={tmp_path / 'x.tar'}", "data.ignore=['*.jpg']")
    assert ended.code == 2 and "data.uri: got no pictures in the packs of" in ended.err, ended.err


def test_sources_that_contradict_are_refused() -> None:
    two = "data.sources=[{uri: a/p}, {uri: b/p}]"
    with pytest.raises(ConfigError, match=r"got data.uri too, expected one of them"):
        load_config("desk", ["data.uri=photos", two])
    with pytest.raises(ConfigError, match="expected a list"):
        load_config("desk", ["data.where=[[licence, in, cc0]]"])
    with pytest.raises(ConfigError, match="where"):
        load_config("desk", ["data.where=[[licence, like, cc0]]"])


def test_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a/p", "b/p"):
        write(tmp_path / folder, "1.jpg", b"x")
    config = load_config("desk", [f"data.sources=[{{uri: {tmp_path}/a/p}}, {{uri: {tmp_path}/b/p}}]"])
    with pytest.raises(ConfigError, match=r"data.sources\[1\].name: got p for two sources"):
        list_sources(config.data)


def test_all_sources_count_for_checks_before_a_run(hfd: Hfd) -> None:
    config = load_config("desk", ["data.sources=[{uri: photos}, {uri: 's3://b/x'}]"])
    assert config.data.uris == {"data.sources[0].uri": "photos", "data.sources[1].uri": "s3://b/x"}
    assert load_config("desk", ["data.uri=p"]).data.uris == {"data.uri": "p"} and not load_config("desk").data.uris
    assert "steps: unknown until data.uri" in hfd("retrain", "-c", "desk", "--dry-run").out
