"""Direct GET requests return the same bytes as the SDK, and leave other cases to the SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.corpus import s3 as s3_objects
from pipelines.corpus.listing import list_corpus
from tests.support.s3_proxy import Proxy
from tests.support.s3_server import put


@pytest.fixture
def proxied(s3: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    assert s3.uri  # its fixture sets the environment
    proxy = Proxy(os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr("hfd.io.failures.WAITS_S", (0.0,) * 3)
    s3_objects.clear_clients()
    yield proxy
    proxy.close()


def read_by_client_alone(monkeypatch: pytest.MonkeyPatch, photo: Any) -> bytes:
    with monkeypatch.context() as patch:
        patch.setattr(s3_objects, "bucket_for_gets", lambda *_: None)
        return bytes(photo.read())


def without_client(monkeypatch: pytest.MonkeyPatch, photo: Any) -> None:
    photo.read()  # how the bucket is reached is learnt from the client, once

    def never(**_: Any) -> Any:
        raise AssertionError("the client was asked")

    monkeypatch.setattr(s3_objects.connection(None, None).client, "get_object", never)


def test_any_key_is_fetched_without_the_client(s3: Folder, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.jpg", "a b+c&d=e%20.jpg", "grün/山 (1)~'!*.jpg", "deep/er/x.jpg"]
    for name in names:
        put(s3_client, s3.uri, f"photos/{name}", name.encode() * 1000)
    photos = list_corpus(f"{s3.uri}/photos", setting="data.uri").photos
    expected = {photo.key: read_by_client_alone(monkeypatch, photo) for photo in photos}
    without_client(monkeypatch, photos[0])
    assert {photo.key: photo.read() for photo in photos} == expected
    assert expected == {name: name.encode() * 1000 for name in names}


def test_an_object_that_changed_or_went_is_left_to_the_client(s3: Folder, s3_client: Any) -> None:
    for name in ("changed.jpg", "gone.jpg"):
        put(s3_client, s3.uri, f"photos/{name}", b"before")
    changed, gone = list_corpus(f"{s3.uri}/photos", setting="data.uri").photos
    put(s3_client, s3.uri, "photos/changed.jpg", b"behind")  # of the same length
    s3_client.delete_object(Bucket=s3.uri.split("/")[2], Key=f"{s3.uri.split('/')[3]}/photos/gone.jpg")
    for photo, reason in ((changed, "changed"), (gone, "missing")):
        with pytest.raises(DataError) as caught:
            photo.read()
        assert caught.value.reason == reason


def test_a_server_that_is_overloaded_or_gone_is_left_to_the_client(s3: Folder, s3_client: Any, proxied: Proxy) -> None:
    data = bytes(range(256)) * 400
    put(s3_client, s3.uri, "photos/a.jpg", data)
    (photo,) = list_corpus(f"{s3.uri}/photos", setting="data.uri").photos
    proxied.share_of_503 = 0.3
    assert all(photo.read() == data for _ in range(20))
    assert proxied.refused
    proxied.share_of_503, proxied.down = 0.0, True
    with pytest.raises(DataError, match="no connection to the server") as caught:
        photo.read()
    assert caught.value.reason == "connection"
    proxied.down = False
    assert photo.read() == data


def test_a_connection_that_breaks_within_an_object_is_left_to_the_client(
    s3: Folder, s3_client: Any, proxied: Proxy
) -> None:
    data = bytes(range(256)) * 4000
    put(s3_client, s3.uri, "photos/a.jpg", data)
    (photo,) = list_corpus(f"{s3.uri}/photos", setting="data.uri").photos
    proxied.cut = True
    with pytest.raises(DataError, match="no connection to the server") as caught:
        photo.read()
    assert caught.value.reason == "connection"
    proxied.cut = False
    assert photo.read() == data


def test_connections_are_kept(s3: Folder, s3_client: Any, proxied: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3_client, s3.uri, "photos/a.jpg", b"a")
    (photo,) = list_corpus(f"{s3.uri}/photos", setting="data.uri").photos
    without_client(monkeypatch, photo)
    before = proxied.connections
    for _ in range(10):
        photo.read()
    assert proxied.connections == before


@pytest.mark.parametrize("bucket", ["photographs", "with.dots"])
def test_requests_to_aws_go_where_the_client_sends_them(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "CONFIG_FILE": "/nowhere"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3_objects.clear_clients()
    direct = s3_objects.bucket_for_gets(bucket, "eu-west-3", None)
    assert direct is not None and direct.region == "eu-west-3"
    assert direct.base == {
        "photographs": "https://photographs.s3.eu-west-3.amazonaws.com/",
        "with.dots": "https://s3.eu-west-3.amazonaws.com/with.dots/",
    }[bucket]  # fmt: skip
    assert s3_objects.bucket_for_gets("fast--use1-az4--x-s3", "us-east-1", None) is None
    s3_objects.clear_clients()
