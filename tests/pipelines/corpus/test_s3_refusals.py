"""Objects that an S3 server refuses: rights, credentials, archives and keys, each with one clear line."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hfd.errors import DataError
from hfd.io.storage import Folder
from pipelines.context import Context, Inputs
from pipelines.corpus import s3 as s3_objects
from pipelines.corpus.listing import Corpus
from pipelines.engine.inline import Inline
from pipelines.prepare import step as prepare
from tests.support.errors import one_line
from tests.support.s3_server import S3Server, listed, put
from tests.support.tiny_run import jpeg, tiny_config

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("change", "reason", "expected"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong" * 8},
            "connection",
            "the server refuses (SignatureDoesNotMatch). Check",
        ),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "connection", "the server refuses (InvalidAccessKeyId). Check AWS_"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "connection", "no connection to the server (Endpoint"),
    ],
)
def test_a_mistake_in_the_environment_is_one_line(
    s3: Folder, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], reason: str, expected: str
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError) as caught:
        listed(s3)
    assert caught.value.reason == reason
    assert one_line(caught).startswith(f"data.uri: {s3.uri}/photos: {expected}")
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in one_line(caught)


def test_a_workspace_that_may_not_be_written_is_one_line(
    s3: Folder, s3_client: Any, s3_service: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3_client, s3.uri, "photos/a.jpg", jpeg(150, 170, seed=1))
    for name, value in s3_service.reader.items():
        monkeypatch.setenv(name, value)
    s3_objects.clear_clients()
    corpus = listed(s3)
    assert corpus.photos[0].read() == jpeg(150, 170, seed=1)
    config = tiny_config(f"{s3.uri}/photos", f"{s3.uri}/workspace")
    with pytest.raises(DataError, match=r"/workspace/prepare/.*(refuses|permission)") as caught:
        context = Context(config, Folder(config.workspace_uri), Inline(config.cluster), inputs=Inputs(corpus))
        prepare.plan(context).run()
    assert caught.value.reason == "permission" and one_line(caught)


def test_no_credentials_at_all_are_one_line(s3: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"no credentials\. Set AWS_ACCESS_KEY_ID and"):
        listed(s3)


def test_a_token_that_expires_stops_the_step_and_blames_no_photograph(
    s3: Folder, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        put(s3_client, s3.uri, f"photos/{i}.jpg", jpeg(150, 170, seed=i))
    corpus = listed(s3)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong" * 8)
    s3_objects.clear_clients()
    config = tiny_config(f"{s3.uri}/photos", tmp_path / "w")
    with pytest.raises(DataError, match="the server refuses"):
        context = Context(config, Folder(config.workspace_uri), Inline(config.cluster), inputs=Inputs(corpus))
        prepare.plan(context).run()
    assert not list((tmp_path / "w").rglob("*.parquet"))


ARCHIVED_XML = (
    b"<Error><Code>InvalidObjectState</Code><Message>The operation is not valid</Message>"
    b"<StorageClass>GLACIER</StorageClass></Error>"
)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, ""),
        ({"StorageClass": "STANDARD"}, ""),
        ({"StorageClass": "GLACIER_IR"}, ""),  # read at once
        ({"StorageClass": "GLACIER"}, "GLACIER"),
        ({"StorageClass": "DEEP_ARCHIVE"}, "DEEP_ARCHIVE"),
        ({"StorageClass": "GLACIER", "RestoreStatus": {"IsRestoreInProgress": True}}, "GLACIER"),
        ({"StorageClass": "GLACIER", "RestoreStatus": {"IsRestoreInProgress": False, "RestoreExpiryDate": 1}}, ""),
    ],
)
def test_a_listing_marks_objects_that_must_be_restored(item: dict[str, Any], expected: str) -> None:
    """Values of the S3 API: ListObjectsV2, x-amz-storage-class and RestoreStatus."""
    assert s3_objects.archive_of(item) == expected


def test_archived_objects_are_rejected_without_a_request_and_tried_again_once_restored(
    s3: Folder, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(6):
        put(s3_client, s3.uri, f"photos/{i}.jpg", jpeg(150, 170, seed=i))
    client = s3_objects.connection(None, None).client
    paginator = client.get_paginator("list_objects_v2")

    class Archive:
        """This server stores no archive class: the listing of one that does."""

        def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
            for page in paginator.paginate(**arguments):
                yield {"Contents": [
                    {**item, "StorageClass": "DEEP_ARCHIVE"} if item["Key"].endswith("/2.jpg") else item
                    for item in page["Contents"]
                ]}  # fmt: skip

    with monkeypatch.context() as patch:
        patch.setattr(client, "get_paginator", lambda _name: Archive())
        corpus = listed(s3)
    photo = corpus.photos[2]
    with monkeypatch.context() as patch:
        patch.setattr(s3_objects, "bucket_for_gets", lambda *_: pytest.fail("a request was sent"))
        with pytest.raises(
            DataError, match=r"/photos/2\.jpg: got .* Restore it from DEEP_ARCHIVE, or leave it out"
        ) as caught:
            photo.read()
    assert caught.value.reason == "archived" and not caught.value.is_outage

    def reasons(corpus: Corpus) -> Any:
        config = tiny_config(f"{s3.uri}/photos", tmp_path / "w", "prepare.max_reject_share=0.9")
        context = Context(config, Folder(config.workspace_uri), Inline(config.cluster), inputs=Inputs(corpus))
        return prepare.plan(context).run().manifest.facts["reasons"]

    assert reasons(corpus) == {"archived": 1}
    assert reasons(listed(s3)) == {}  # restored


@pytest.mark.parametrize(
    ("status", "code", "text", "reason", "expected"),
    [
        (403, "InvalidObjectState", "", "archived", "Restore it from GLACIER, or leave it out"),
        (400, "KMS.DisabledException", "arn:aws:kms:x is disabled.", "encrypted", "Enable or restore the key"),
        (400, "KMS.KMSInvalidStateException", "pending deletion", "encrypted", "Enable or restore the key"),
        (403, "AccessDenied", "not authorized to perform: kms:Decrypt", "permission", "Ask for the right"),
        (
            400,
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption.",
            "encrypted",
            "(SSE-C)",
        ),
        (403, "AllAccessDisabled", "", "connection", "Ask its owner"),
    ],
)
def test_refusals_that_are_no_lack_of_rights_have_reasons_of_their_own(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, text: str, reason: str, expected: str
) -> None:
    """A server cannot be brought to these states here; the responses are those of the S3 API."""
    body = ARCHIVED_XML if code == "InvalidObjectState" else (
        f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
    )  # fmt: skip
    monkeypatch.setattr("hfd.io.failures.WAITS_S", ())
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with answering(status, body) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3_objects.clear_clients()
        with pytest.raises(DataError) as caught:
            s3_objects.fetch("s3://bucket/photos", "a.jpg", 5, "etag")
    s3_objects.clear_clients()
    assert caught.value.reason == reason and expected in one_line(caught)


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
