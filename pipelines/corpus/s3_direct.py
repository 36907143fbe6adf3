"""A GET on S3 the short way: the request that the SDK would send, signed and sent without the rest of the SDK.

Of the processor time that a small photograph costs, the SDK's client takes a fifth: it builds, checks and parses for
every operation that there is. Here is the one that a corpus needs by the thousand, on botocore's own signature and
connections. Whatever is not a plain success is left to the client, which knows redirects, retries and errors.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

CONNECT_S, READ_S = 10, 60

_EXPRESS = "--x-s3"
"""Buckets of S3 Express end so; they are signed with a session of their own."""

_PROBE = "hfd-direct-probe"


@dataclass(frozen=True)
class DirectBucket:
    """``base``: the URL that a key is appended to. The rest is as the client had it."""

    base: str
    region: str
    credentials: Any
    http: Any

    def get(self, key: str, size: int, stamp: str) -> bytes | None:
        """The object, if it has this size in bytes and this ETag (unquoted), and all goes well; else None."""
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, HTTPClientError

        # HTTP clients take dots for folders out of a path, and would ask for another object than was signed.
        if any(part in (".", "..", "") for part in key.split("/")):
            return None
        url = self.base + quote(key, safe="/~")
        request = AWSRequest("GET", url, headers={"If-Match": f'"{stamp}"'}, stream_output=True)
        try:
            self._sign(request)
            answer = self.http.send(request.prepare())
        except (BotoCoreError, HTTPClientError):
            return None
        with contextlib.closing(answer.raw):
            try:
                # Before memory is taken: servers may ignore the condition.
                same = answer.headers.get("ETag", "").strip('"') == stamp
                if answer.status_code != 200 or not same or answer.headers.get("Content-Length") != str(size):
                    return None
                data = bytes(answer.content)
            except (BotoCoreError, HTTPClientError):
                return None
            finally:
                answer.raw.release_conn()
        return data if len(data) == size else None

    def _sign(self, request: Any) -> None:
        from botocore.auth import S3SigV4Auth

        request.context["payload_signing_enabled"] = False  # a GET has none
        # Frozen at each request: those of a role are renewed behind the scenes.
        S3SigV4Auth(self.credentials.get_frozen_credentials(), "s3", self.region).add_auth(request)


def direct_bucket(session: Any, client: Any, bucket: str, connections: int) -> DirectBucket | None:
    """How the client reaches a bucket, taken from a request of its own; None: by ways that are not followed here.

    ``session``: that of botocore, with which the ``client`` was made.
    """
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    credentials = session.get_credentials()
    if credentials is None or bucket.endswith(_EXPRESS):
        return None
    request = _intercepted(client, bucket)
    scope = re.search(r"AWS4-HMAC-SHA256 Credential=[^,]*/([^/,]+)/s3/aws4_request", _text(request, "Authorization"))
    if scope is None or not request.url.endswith(f"/{_PROBE}"):
        return None
    base = request.url.removesuffix(_PROBE)
    http = URLLib3Session(
        verify=session.get_config_variable("ca_bundle") or True,
        proxies=get_environ_proxies(base),
        timeout=(CONNECT_S, READ_S),
        max_pool_connections=connections,
    )
    return DirectBucket(base, scope[1], credentials, http)


class _InterceptedError(Exception):
    def __init__(self, request: Any) -> None:
        self.request = request


def _intercepted(client: Any, bucket: str) -> Any:
    """The signed request for an object, which is not sent."""

    def intercept(request: Any, **_: Any) -> None:
        if request.url.endswith(f"/{_PROBE}"):  # other threads may use the client
            raise _InterceptedError(request)

    event = "before-send.s3.GetObject"
    client.meta.events.register_first(event, intercept)
    try:
        client.get_object(Bucket=bucket, Key=_PROBE)
    except _InterceptedError as found:
        return found.request
    finally:
        client.meta.events.unregister(event, intercept)
    raise AssertionError("botocore sends nothing past its own event")


def _text(request: Any, header: str) -> str:
    value = request.headers.get(header, "")
    return value.decode() if isinstance(value, bytes) else str(value)
