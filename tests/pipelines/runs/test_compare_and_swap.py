"""Compare-and-swap on local folders and on S3."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from pipelines.runs.compare_and_swap import MAX_BYTES, S3CasObject, open_cas_object
from pipelines.runs.lease import NAME


def test_a_swap_needs_the_current_version(workspace: Folder) -> None:
    cas = open_cas_object(workspace, "cas")
    first = cas.swap(b"one", None)
    assert first is not None
    assert cas.swap(b"two", None) is None and cas.swap(b"two", '"other"') is None
    found = cas.read()
    assert found is not None and (found.data, found.version) == (b"one", first)
    assert -1.0 <= found.age_s < 60.0
    second = cas.swap(b"three", first)
    assert second not in (None, first) and cas.swap(b"four", first) is None
    empty = cas.swap(b"", second)
    found = cas.read()
    assert found is not None and (found.data, found.version) == (b"", empty)
    assert cas.swap(b"five", empty) is not None


def test_an_age_grows_by_the_storages_clock(workspace: Folder) -> None:
    cas = open_cas_object(workspace, "cas")
    cas.swap(b"one", None)
    time.sleep(2.2)
    found = cas.read()
    assert found is not None and found.age_s >= 1.0


def test_an_object_hides_from_listings_and_holds_little(workspace: Folder) -> None:
    open_cas_object(workspace, NAME).swap(b"x" * (MAX_BYTES // 2), None)
    assert workspace.files() == []


def test_a_failing_lock_or_server_is_one_line(tmp_path: Path, s3: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be locked \(.*\)\. Check the folder's owner"):
        open_cas_object(Folder(str(tmp_path / "file")), NAME).read()
    with pytest.raises(ConfigError, match=r"^gs://bucket/x: got an unusable URI \(another scheme\)"):
        open_cas_object(Folder("gs://bucket/x"), NAME)
    with pytest.raises(DataError, match=r"got no such bucket, expected one that exists"):
        open_cas_object(Folder("s3://no-such-bucket/x"), NAME).swap(b"x", None)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DataError, match=r"the server refuses \(SignatureDoesNotMatch\)"):
        open_cas_object(s3, NAME).read()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="no connection to the server"):
        open_cas_object(s3, NAME).swap(b"x", None)


def test_a_server_that_writes_in_spite_of_a_condition_is_refused(s3: Folder) -> None:
    cas = open_cas_object(s3, "cas")
    assert isinstance(cas, S3CasObject)
    cas.swap(b"one", None)
    cas.check()

    class Careless:
        """The real client, without its conditions."""

        def put_object(self, **arguments: Any) -> Any:
            kept = {key: value for key, value in arguments.items() if not key.startswith("If")}
            return cas.client.put_object(**kept)

        def get_object(self, **arguments: Any) -> Any:
            return cas.client.get_object(**arguments)

    with pytest.raises(ConfigError, match="ignores IfNoneMatch, expected one that checks conditional writes"):
        S3CasObject(cas.bucket, cas.key, Careless()).check()


def test_a_write_whose_answer_was_lost_is_recognised(s3: Folder) -> None:
    cas = open_cas_object(s3, "cas")
    first = cas.swap(b"one", None)
    assert first is not None
    second = cas.swap(b"two", first)
    assert cas.swap(b"two", first) == second  # as a client's retry would
    assert cas.swap(b"three", first) is None
