"""Objects on a real S3 server: listed by page and fetched as listed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.utils import parse_timestamp

from hfd.errors import ConfigError, DataError
from hfd.image.load import IMAGE_SUFFIXES
from hfd.image.tree import Selection
from hfd.io.entry import Entry
from hfd.io.storage import Folder
from hfd.io.uris import S3Prefix, parse_s3
from pipelines.context import Context, Inputs
from pipelines.corpus import s3 as s3_objects
from pipelines.corpus.listing import list_corpus
from pipelines.corpus.photo_list import PhotoList
from pipelines.corpus.s3_client import parse_time
from pipelines.engine.inline import Inline
from pipelines.prepare import step as prepare
from tests.support.errors import one_line
from tests.support.s3_server import listed, put
from tests.support.tiny_run import jpeg, tiny_config

NAMES = ["a b.jpg", "a+b.jpg", "a-b.jpg", "a..b.jpg", "100%.jpg", "q?x#y.jpg", "ü 猫.jpg", "sub/c.webp", "sub/d~é.PNG"]


def test_any_key_is_listed_in_order_and_read_back(s3: Folder, s3_client: Any) -> None:
    for name in [*NAMES, "notes.txt", ".hidden.jpg", ".cache/x.jpg"]:
        put(s3_client, s3.uri, f"photos/{name}", name.encode())
    put(s3_client, s3.uri, "photos/sub/", b"")
    put(s3_client, s3.uri, "photos-not-here/x.jpg")
    found = listed(s3)
    assert [photo.key for photo in found.photos] == sorted(NAMES) and found.num_other_files == 1
    assert [photo.read().decode() for photo in found.photos] == sorted(NAMES)
    assert all(len(photo.stamp) == 32 and photo.size == len(photo.key.encode()) for photo in found.photos)
    assert pickle.loads(pickle.dumps(found.photos[0])).read().decode() == found.photos[0].key


@pytest.mark.parametrize("prefix", ["with space", "ünter/猫", "with%20escape"])
def test_a_prefix_of_any_script_is_that_of_the_folder(s3: Folder, prefix: str) -> None:
    """The listing finds objects that a folder wrote under the same URI."""
    (s3 / prefix).write("x.jpg", b"here")
    (photo,) = listed(s3, prefix).photos
    assert photo.read() == b"here" == (s3 / prefix).read("x.jpg")


def test_the_digest_is_of_contents_and_not_of_times(s3: Folder, s3_client: Any) -> None:
    put(s3_client, s3.uri, "photos/a.jpg", b"one")
    before = listed(s3).digest
    put(s3_client, s3.uri, "photos/a.jpg", b"one")  # written again, later
    assert listed(s3).digest == before
    put(s3_client, s3.uri, "photos/a.jpg", b"two")
    assert listed(s3).digest != before


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00.000Z", "2026-11-29T23:59:59.999Z", "2026-11-29T22:22:32+02:00", "20261129T222232Z",
        "2026-11-29T22:22:32", "2026-11-29", "Sun, 29 Nov 2026 22:22:32 GMT", "1795990952", 1795990952, 1795990952.5,
    ],
)  # fmt: skip
def test_times_of_answers_are_those_of_botocore(text: str | float) -> None:
    found, expected = parse_time(text), parse_timestamp(text)
    assert (found, found.utcoffset()) == (expected, expected.utcoffset())


def test_a_listing_does_not_pay_for_the_slow_parser_and_no_time_is_made_up(
    s3: Folder, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3_client, s3.uri, "photos/a.jpg", b"one")
    monkeypatch.setattr("dateutil.parser.parse", lambda *_, **__: pytest.fail("parsed by dateutil"))
    assert [photo.key for photo in listed(s3).photos] == ["a.jpg"]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_time("yesterday?")


def test_more_objects_than_a_page_holds(s3: Folder, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i:03d}.jpg" for i in range(25)]
    for name in names:
        put(s3_client, s3.uri, f"photos/{name}")
    uri = f"{s3.uri}/photos"
    pages: list[int] = []
    (real,) = [s3_objects.connection(None, None).client]
    paginator = real.get_paginator("list_objects_v2")

    class Small:
        def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
            for page in paginator.paginate(**arguments, PaginationConfig={"PageSize": 10}):
                pages.append(len(page.get("Contents", ())))
                yield page

    monkeypatch.setattr(real, "get_paginator", lambda _name: Small())
    assert [entry.key for entry in s3_objects.list_objects(uri)] == names
    assert pages == [10, 10, 5]
    told: list[int] = []
    monkeypatch.setattr("pipelines.corpus.listing.PROGRESS_EVERY_FILES", 10)
    list_corpus(uri, setting="data.uri", on_progress=lambda done, _total: told.append(done))
    assert told == [10, 20]


def test_an_object_that_changes_after_the_listing_is_rejected_as_changed(
    s3: Folder, s3_client: Any, tmp_path: Path
) -> None:
    for i in range(6):
        put(s3_client, s3.uri, f"photos/{i}.jpg", jpeg(150, 170, seed=i))
    corpus = listed(s3)
    put(s3_client, s3.uri, "photos/2.jpg", jpeg(150, 170, seed=50))
    s3_client.delete_object(Bucket=s3.uri.split("/")[2], Key=f"{s3.uri.split('/')[3]}/photos/4.jpg")
    for number, reason in ((2, "changed"), (4, "missing")):
        with pytest.raises(DataError, match=r"/photos/\d\.jpg: got .*listed") as caught:
            corpus.photos[number].read()
        assert caught.value.reason == reason and one_line(caught)
    config = tiny_config(f"{s3.uri}/photos", tmp_path / "w", "prepare.max_reject_share=0.9")
    done = prepare.plan(
        Context(config, Folder(config.workspace_uri), Inline(config.cluster), inputs=Inputs(corpus))
    ).run()
    assert done.manifest.facts["reasons"] == {"changed": 1, "missing": 1}


def test_a_server_that_ignores_the_condition_is_caught_before_memory_is_taken(
    s3: Folder, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3_client, s3.uri, "photos/a.jpg", b"short")
    (photo,) = listed(s3).photos
    put(s3_client, s3.uri, "photos/a.jpg", b"much longer than it was")
    real = s3_objects.connection(None, None).client
    get = real.get_object
    monkeypatch.setattr(real, "get_object", lambda *, Bucket, Key, **_: get(Bucket=Bucket, Key=Key))
    with pytest.raises(DataError, match=r"got 23 bytes, .* expected 5 bytes, ") as caught:
        photo.read()
    assert caught.value.reason == "changed" and one_line(caught)


def test_an_answer_that_breaks_off_is_asked_for_again(
    s3: Folder, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ResponseStreamingError

    put(s3_client, s3.uri, "photos/a.jpg", b"whole")
    (photo,) = listed(s3).photos
    real = s3_objects.connection(None, None).client
    get, left = real.get_object, [2]

    class Broken:
        def read(self) -> bytes:
            raise ResponseStreamingError(error="cut")

        def close(self) -> None:
            pass

    def flaky(**arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = get(**arguments)
        left[0] -= 1
        return {**found, "Body": Broken()} if left[0] >= 0 else found

    monkeypatch.setattr(real, "get_object", flaky)
    monkeypatch.setattr(s3_objects, "bucket_for_gets", lambda *_: None)
    monkeypatch.setattr("hfd.io.failures.WAITS_S", (0.0,) * 3)
    assert photo.read() == b"whole" and left == [-1]
    left[0] = 100
    with pytest.raises(DataError, match=r"no connection to the server \(ResponseStreamingError\)") as caught:
        photo.read()
    assert caught.value.reason == "connection" and left == [100 - 4] and one_line(caught)


def test_only_new_objects_are_fetched_when_a_prefix_grows(
    s3: Folder, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    original = s3_objects.fetch
    monkeypatch.setattr("pipelines.corpus.photo.fetch", lambda *a: (fetched.append(a[1]), original(*a))[1])
    for i in range(8):
        put(s3_client, s3.uri, f"photos/{i}.jpg", jpeg(150, 170, seed=i))

    def run(workspace: str) -> prepare.Done:
        config = tiny_config(f"{s3.uri}/photos", workspace)
        return prepare.plan(
            Context(config, Folder(config.workspace_uri), Inline(config.cluster), inputs=Inputs(listed(s3)))
        ).run()

    run(f"{s3.uri}/workspace")
    assert len(fetched) == 8
    put(s3_client, s3.uri, "photos/3a.jpg", jpeg(150, 170, seed=30))
    fetched.clear()
    grown = run(f"{s3.uri}/workspace")
    assert fetched == ["3a.jpg"] and grown.manifest.facts["copied"] == 8
    assert grown.digest == run(str(tmp_path / "afresh")).digest


def test_a_missing_bucket_an_empty_prefix_and_a_file_have_different_messages(s3: Folder, s3_client: Any) -> None:
    put(s3_client, s3.uri, "one.jpg")
    put(s3_client, s3.uri, "texts/a.txt")
    for uri, reason, expected in (
        ("s3://no-such-bucket-here/photos", "missing", "got no such bucket, expected one that exists"),
        (f"{s3.uri}/nothing", "empty", "got no pictures in "),
        (f"{s3.uri}/texts", "empty", "got no pictures in "),
        (f"{s3.uri}/one.jpg", "not-a-folder", "got a file, expected a folder"),
    ):
        with pytest.raises(DataError) as caught:
            list_corpus(uri, setting="evaluate.data")
        assert caught.value.reason == reason
        assert (
            one_line(caught).startswith("evaluate.data: ") and expected in one_line(caught) and uri in one_line(caught)
        )


def test_a_key_with_dots_for_folders_cannot_leave_its_folder(s3: Folder, s3_client: Any) -> None:
    """This server refuses to store one; others do not, and what they list is rejected when it is read."""
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError, match="InvalidRequest"):
        put(s3_client, s3.uri, "photos/../up.jpg")
    put(s3_client, s3.uri, "photos/a.jpg")
    sly = replace(listed(s3).photos[0], key="../up.jpg", name="../up.jpg")
    with pytest.raises(DataError, match=r"^\.\./up\.jpg: got \. or \.\. in a key") as caught:
        sly.read()
    assert caught.value.reason == "bad-key"
    assert Selection(IMAGE_SUFFIXES).takes("../up.jpg") and not Selection(IMAGE_SUFFIXES).takes("a/.b/c.jpg")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket", S3Prefix("bucket", "")),
        ("s3://bucket/", S3Prefix("bucket", "")),
        ("s3://bucket/a/b/", S3Prefix("bucket", "a/b/")),
        ("s3://bucket/a b?region=eu-west-1", S3Prefix("bucket", "a b/", "eu-west-1")),
        ("s3://b/p?endpoint_override=localhost:9000&scheme=http", S3Prefix("b", "p/", None, "http://localhost:9000")),
    ],
)
def test_uris_are_read(uri: str, expected: S3Prefix) -> None:
    assert parse_s3(uri) == expected


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/x?colour=red"])
def test_unusable_uris_are_refused_without_repeating_a_secret(uri: str) -> None:
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix") as caught:
        list_corpus(uri, setting="data.uri")
    assert "secret" not in one_line(caught) and one_line(caught).startswith("data.uri: s3://")


def test_a_listed_photograph_takes_little_memory(s3: Folder) -> None:
    """Bounded for each key, so that a million fit: measured on a listing of this server's shape."""
    import tracemalloc

    folder = Folder(f"{s3.uri}/photos")
    entries = (Entry(f"shard-{i // 1000:05d}/{i:09d}.jpg", 100_000 + i, f"{i:032x}") for i in range(20_000))
    tracemalloc.start()
    photos = PhotoList(folder)
    for entry in entries:
        photos.append(entry)
    photos.sort()
    parts = [photos[start : start + 128] for start in range(0, len(photos), 128)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(photos) < 130 and sum(map(len, parts)) == 20_000
