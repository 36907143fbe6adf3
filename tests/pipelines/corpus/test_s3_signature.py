"""Signatures of GET requests are those of botocore."""

from __future__ import annotations

import datetime
from urllib.parse import quote

import pytest

from pipelines.corpus.s3_signature import signed_headers

TIMES = [
    datetime.datetime(2025, 12, 31, 23, 59, 59),
    datetime.datetime(2026, 1, 1),
    datetime.datetime(2026, 3, 4, 5, 6),
]
KEYS = ["a.jpg", "deep/er/x.jpg", "a b+c&d=e%20.jpg", "grün/山 (1)~'!*.jpg", "a:b;c,d@e$.png"]


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEBY//token+with/signs=="])
@pytest.mark.parametrize(
    "base",
    [
        "https://photographs.s3.eu-west-3.amazonaws.com/",
        "https://s3.eu-west-3.amazonaws.com/with.dots/",
        "http://127.0.0.1:8333/bucket/",
        "http://LocalHost:80/bucket/",
        "https://store:443/bucket/",
        "https://[::1]:9000/bucket/",
    ],
)
def test_signatures_are_those_of_botocore(monkeypatch: pytest.MonkeyPatch, base: str, token: str | None) -> None:
    from botocore import auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import ReadOnlyCredentials

    for secret in ("secret", "another/Secret+key"):
        credentials = ReadOnlyCredentials("AKIDEXAMPLE", secret, token)
        for now in TIMES:
            monkeypatch.setattr(auth, "get_current_datetime", lambda now=now, **_: now)
            for key in KEYS:
                url = base + quote(key, safe="/~")
                request = AWSRequest("GET", url, headers={"If-Match": '"0123abcd-4"'})
                auth.S3SigV4Auth(credentials, "s3", "eu-west-3").add_auth(request)
                got = signed_headers(url, {"If-Match": '"0123abcd-4"'}, credentials, "eu-west-3", now)
                assert got == dict(request.headers.items())


def test_the_present_time_is_signed() -> None:
    from botocore.credentials import ReadOnlyCredentials

    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    headers = signed_headers("https://store/bucket/a.jpg", {}, ReadOnlyCredentials("id", "key", None), "us-east-1")
    signed = datetime.datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    assert before <= signed <= datetime.datetime.now(datetime.UTC)
