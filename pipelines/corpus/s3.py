"""List objects of a corpus on S3 with their ETags, and fetch them only while they are unchanged.

Arrow's file system, which writes the outputs, offers neither ETags nor conditional reads.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from hfd.errors import DataError
from hfd.io.entry import Entry
from hfd.io.failures import with_retries
from hfd.io.uris import parse_s3
from pipelines.corpus.s3_client import Connection, connect, one_line
from pipelines.corpus.s3_direct import EXPRESS, DirectBucket, direct_bucket

ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def list_objects(uri: str, start: str = "") -> Iterator[Entry]:
    """Yield every object below a prefix in the server's order, one page in memory; the stamp is its ETag.

    Folder markers are omitted. ``start``: only keys that begin with it.

    Raises:
        DataError: one line; ``reason`` is ``missing`` (no such bucket), ``not-a-folder``, ``permission`` or an outage.
    """
    where = parse_s3(uri)
    client = connection(where.region, where.endpoint).client
    found = False
    with one_line(uri):
        more = {} if where.bucket.endswith(EXPRESS) else {"OptionalObjectAttributes": ["RestoreStatus"]}
        paginator, prefix = client.get_paginator("list_objects_v2"), where.prefix + start
        pages = paginator.paginate(Bucket=where.bucket, Prefix=prefix, **more)
        for page in pages:
            for item in page.get("Contents", ()):
                found = True
                key = item["Key"][len(where.prefix) :]
                if key and not key.endswith("/"):
                    yield Entry(key, int(item["Size"]), str(item["ETag"]).strip('"'), archive_of(item))
    if not found and not start and where.prefix and _is_object(client, where.bucket, where.prefix.rstrip("/")):
        raise DataError(f"{uri}: got a file, expected a folder", reason="not-a-folder")


def archive_of(item: Mapping[str, Any]) -> str:
    """Return the archive class of a listed object that cannot be read before it is restored; empty for others.

    GLACIER_IR is read at once. A restored copy can be read until it expires. Objects that INTELLIGENT_TIERING has
    archived look like others in a listing.
    """
    kind, restored = str(item.get("StorageClass") or ""), item.get("RestoreStatus") or {}
    readable = restored.get("RestoreExpiryDate") is not None and not restored.get("IsRestoreInProgress")
    return kind if kind in ARCHIVES and not readable else ""


def fetch(uri: str, name: str, size: int, stamp: str) -> bytes:
    """Return the bytes of an object that still has the listed ``size`` and ``stamp``.

    Raises:
        DataError: one line; ``reason`` is ``changed``, ``missing`` (deleted since), ``permission`` or an outage.
    """
    what = f"{uri.rstrip('/')}/{name}"

    def once() -> bytes:
        with one_line(what):
            return _fetch_once(uri, name, size, stamp, what)

    return with_retries(what, once, known=True)  # the server exists: it listed the object


def _fetch_once(uri: str, name: str, size: int, stamp: str, what: str) -> bytes:
    where = parse_s3(uri)
    direct = bucket_for_gets(where.bucket, where.region, where.endpoint)
    data = direct.get(where.prefix + name, size, stamp) if direct else None
    if data is not None:
        return data
    found = connection(where.region, where.endpoint).client.get_object(
        Bucket=where.bucket, Key=where.prefix + name, IfMatch=f'"{stamp}"'
    )
    with contextlib.closing(found["Body"]) as body:
        # Some servers ignore the condition: check before reading into memory.
        if found["ContentLength"] != size or str(found["ETag"]).strip('"') != stamp:
            raise changed(what, f"{found['ContentLength']} bytes, {found['ETag']}", f'{size} bytes, "{stamp}"')
        return bytes(body.read())


def fetch_range(uri: str, name: str, span: tuple[int, int], size: int, stamp: str) -> bytes:
    """Return the bytes [start, stop) of an object that still has the listed ``size`` and ``stamp``.

    Raises:
        DataError: as :func:`fetch`.
    """
    what = f"{uri.rstrip('/')}/{name}"

    def once() -> bytes:
        with one_line(what):
            return _fetch_range_once(uri, name, span, size, stamp, what)

    return with_retries(what, once, known=True)


def _fetch_range_once(uri: str, name: str, span: tuple[int, int], size: int, stamp: str, what: str) -> bytes:
    where, (start, stop) = parse_s3(uri), span
    found = connection(where.region, where.endpoint).client.get_object(
        Bucket=where.bucket, Key=where.prefix + name, IfMatch=f'"{stamp}"', Range=f"bytes={start}-{stop - 1}"
    )
    with contextlib.closing(found["Body"]) as body:
        whole = str(found.get("ContentRange", "")).rpartition("/")[2]
        if found["ContentLength"] != stop - start or whole != str(size) or str(found["ETag"]).strip('"') != stamp:
            raise changed(what, f"{whole or 'all'} bytes, {found['ETag']}", f'{size} bytes, "{stamp}"')
        return bytes(body.read())


def changed(what: str, got: str, expected: str) -> DataError:
    """Return the error for a picture that has changed since it was listed."""
    return DataError(f"{what}: got {got}, expected {expected} as listed. Run again to list anew", reason="changed")


@functools.lru_cache(maxsize=8)
def connection(region: str | None, endpoint: str | None) -> Connection:
    """Return this process's connection to a server."""
    return connect(region, endpoint)


@functools.lru_cache(maxsize=64)
def bucket_for_gets(bucket: str, region: str | None, endpoint: str | None) -> DirectBucket | None:
    """Return the fast reader of a bucket, or None where only the client can read it."""
    return direct_bucket(connection(region, endpoint), bucket)


def clear_clients() -> None:
    """Make new clients from here on, for a process whose environment has changed."""
    bucket_for_gets.cache_clear()
    connection.cache_clear()


def find_object(uri: str) -> Entry | None:
    """Return the object at a URI, None if there is none; ``key`` is the last part of its name.

    Raises:
        DataError: one line; ``reason`` is ``missing`` (no such bucket), ``permission`` or an outage.
    """
    from botocore.exceptions import ClientError

    where = parse_s3(uri)
    key = where.prefix.rstrip("/")
    with one_line(uri):
        try:
            found = connection(where.region, where.endpoint).client.head_object(Bucket=where.bucket, Key=key)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise
    return Entry(key.rpartition("/")[2], int(found["ContentLength"]), str(found["ETag"]).strip('"'), archive_of(found))


def _is_object(client: Any, bucket: str, key: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_object(Bucket=bucket, Key=key)
    except ClientError:
        return False
    return True
