"""Objects on S3 as a corpus needs them: listed with their ETags, and fetched only while they are what was listed.

Arrow's file system, which writes the outputs, knows neither. Credentials come from the environment.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Entry, patiently
from pipelines.corpus.s3_direct import CONNECT_S, READ_S, DirectBucket, direct_bucket

CONNECTIONS = 16
"""Kept open by a process: as many as it may fetch from at once."""

_CREDENTIALS = {
    "SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidClientTokenId", "ExpiredToken", "InvalidToken",
    "RequestTimeTooSkewed", "AuthorizationHeaderMalformed",
}  # fmt: skip
_QUERY = ("region", "endpoint_override", "scheme")


@dataclass(frozen=True)
class Prefix:
    """Where objects are. ``prefix`` is empty or ends with a slash; None: what the environment says."""

    bucket: str
    prefix: str
    region: str | None = None
    endpoint: str | None = None


@functools.lru_cache(maxsize=64)
def parse(uri: str) -> Prefix:
    """Read ``s3://bucket/prefix``, as :class:`hfd.io.storage.Folder` does: what is escaped is taken back.

    Raises:
        ConfigError: credentials in the URI, no bucket, or a query that is not understood.
    """
    # What a URI cannot hold as it is (spaces, other scripts) is escaped; escapes stay what they are.
    parts = urlsplit(quote(uri, safe="%/:?#[]@!$&'()*+,;=~"))
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.fragment or set(query) - set(_QUERY):
        shown = re.sub(r"//[^/@]*@", "//...@", uri)
        raise ConfigError(
            f"{shown}: got an unusable URI, expected s3://bucket/prefix. Credentials belong in the environment (AWS_*)"
        )
    prefix = unquote(parts.path).strip("/")
    host = query.get("endpoint_override")
    endpoint = f"{query.get('scheme', 'https')}://{host}" if host else None
    return Prefix(unquote(parts.netloc), f"{prefix}/" if prefix else "", query.get("region"), endpoint)


def list_objects(uri: str) -> Iterator[Entry]:
    """Every object below a prefix in the server's order, a page in memory at a time; the stamp is its ETag.

    Markers of folders and hidden names (a part that begins with a dot) are left out; ``..`` is not hidden.

    Raises:
        DataError: one line; ``reason`` is ``missing`` (no such bucket), ``not-a-folder``, ``permission`` or an outage.
    """
    where = parse(uri)
    client = _client(where.region, where.endpoint)
    found = False
    with _one_line(uri):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=where.bucket, Prefix=where.prefix):
            for item in page.get("Contents", ()):
                found = True
                key = item["Key"][len(where.prefix) :]
                if key and not key.endswith("/") and not is_hidden(key):
                    yield Entry(key, int(item["Size"]), str(item["ETag"]).strip('"'))
    if not found and where.prefix and _is_object(client, where.bucket, where.prefix.rstrip("/")):
        raise DataError(f"{uri}: got a file, expected a folder", reason="not-a-folder")


def is_hidden(key: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in key.split("/"))


def fetch(uri: str, name: str, size: int, stamp: str) -> bytes:
    """The bytes of an object, provided that it is still what was listed.

    Raises:
        DataError: one line; ``reason`` is ``changed``, ``missing`` (deleted since), ``permission`` or an outage.
    """
    what = f"{uri.rstrip('/')}/{name}"

    def once() -> bytes:
        with _one_line(what):
            return _fetch_once(uri, name, size, stamp, what)

    return patiently(what, once, known=True)  # it was listed: the server is there


def _fetch_once(uri: str, name: str, size: int, stamp: str, what: str) -> bytes:
    where = parse(uri)
    direct = _direct(where.bucket, where.region, where.endpoint)
    data = direct.get(where.prefix + name, size, stamp) if direct else None
    if data is not None:
        return data
    found = _client(where.region, where.endpoint).get_object(
        Bucket=where.bucket, Key=where.prefix + name, IfMatch=f'"{stamp}"'
    )
    with contextlib.closing(found["Body"]) as body:
        # A server that ignores the condition is caught here, before memory is taken.
        if found["ContentLength"] != size or str(found["ETag"]).strip('"') != stamp:
            raise changed(what, f"{found['ContentLength']} bytes, {found['ETag']}", f'{size} bytes, "{stamp}"')
        return bytes(body.read())


def changed(what: str, got: str, expected: str) -> DataError:
    """The error of a picture that is no longer the one that was listed."""
    return DataError(f"{what}: got {got}, expected {expected} as listed. Run again to list anew", reason="changed")


def _client(region: str | None, endpoint: str | None) -> Any:
    return _connected(region, endpoint)[1]


@functools.lru_cache(maxsize=8)
def _connected(region: str | None, endpoint: str | None) -> tuple[Any, Any]:
    """Botocore's session and client, one of each for a process and server: making them takes a tenth of a second.

    Clients are shared by threads. Sessions must not be, while they make one.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    patience = Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard", "max_attempts": 6},
        parameter_validation=False,  # ours are always the same few, and an object costs milliseconds of Python as it is
    )
    try:
        session = boto3.session.Session()
        client = session.client("s3", region_name=region, endpoint_url=endpoint, config=patience)
        return session._session, client
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"AWS_ENDPOINT_URL: not usable ({_brief(error)}). Correct the environment") from error


@functools.lru_cache(maxsize=64)
def _direct(bucket: str, region: str | None, endpoint: str | None) -> DirectBucket | None:
    return direct_bucket(*_connected(region, endpoint), bucket, CONNECTIONS)


def clear_clients() -> None:
    """Make new clients from here on: for a process whose environment has changed."""
    _direct.cache_clear()
    _connected.cache_clear()


def _is_object(client: Any, bucket: str, key: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_object(Bucket=bucket, Key=key)
    except ClientError:
        return False
    return True


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        raise _refusal(what, error.response) from error
    except NoCredentialsError as error:
        raise DataError(
            f"{what}: no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
            reason="connection",
        ) from error
    except BotoCoreError as error:  # connections that fail, time out or break off, after all retries
        raise DataError(
            f"{what}: no connection to the server ({type(error).__name__}). Check AWS_ENDPOINT_URL and the network",
            reason="connection",
        ) from error


def _refusal(what: str, response: dict[str, Any]) -> DataError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "PreconditionFailed" or status == 412:
        return DataError(
            f"{what}: got another object, expected the one that was listed. Run again to list anew", reason="changed"
        )
    if code == "NoSuchBucket":
        return DataError(f"{what}: got no such bucket, expected one that exists. Correct the URI", reason="missing")
    if code in ("NoSuchKey", "404"):
        return DataError(f"{what}: got no such object, expected the one that was listed", reason="missing")
    if code in _CREDENTIALS:
        # Of the run, not of the object at hand: an outage, so that no photograph is blamed for a token that expired.
        return DataError(
            f"{what}: the server refuses ({code}). Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL "
            "in the environment",
            reason="connection",
        )
    if status in (401, 403):
        return DataError(f"{what}: the server refuses ({code}). Ask for the right to read it", reason="permission")
    return DataError(f"{what}: the server answers {code or status}. Run the same command again", reason="connection")


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
