"""Parse folders as users write them: local paths, ``file:`` and ``s3://`` URIs. No other module parses URIs."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from hfd.errors import ConfigError

_SCHEME = re.compile(r"(file|s3):|[A-Za-z][A-Za-z0-9+.-]*://", re.IGNORECASE)
_QUERY = ("region", "endpoint_override", "scheme")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class S3Prefix:
    """A parsed URI. ``prefix``: decoded, empty or with a slash at its end. ``region``, ``endpoint`` None: as the
    environment sets them."""

    bucket: str
    prefix: str
    region: str | None = None
    endpoint: str | None = None

    @property
    def arrow_uri(self) -> str:
        """Return the URI for Arrow, with escapes for characters that Arrow would drop or misread."""
        path = quote(self.prefix.rstrip("/"), safe="/")
        scheme, _, host = (self.endpoint or "").partition("://")
        stated = {"region": self.region, "endpoint_override": host, "scheme": scheme}
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in stated.items() if value)
        return f"s3://{self.bucket}/{path}".rstrip("/") + (f"?{query}" if query else "")


def is_local(uri: str) -> bool:
    """Return True for a path or a ``file:`` URI. A folder's name with a colon is still a path."""
    found = _SCHEME.match(uri)
    return found is None or found[0].lower().startswith("file:")


def local_path(uri: str) -> str:
    """Return the path of a local folder, with escapes of ``file:`` URIs decoded. Raises :class:`ConfigError`."""
    if "\0" in uri:
        raise ConfigError(f"{uri!r}: got a NUL character in a path, expected none. Correct the path")
    if _SCHEME.match(uri) is None:
        return uri
    if "#" in uri or "?" in uri:
        raise ConfigError(f"{uri}: got # or ? in a file: URI, expected %23 or %3F. Or give the path alone")
    path = re.sub(r"(?i)^file:(//(localhost(?=/))?)?", "", uri)
    if not path.startswith("/"):
        raise ConfigError(f"{uri}: got a file: URI without an absolute path, expected file:///folder. Or give the path")
    return unquote(path, errors="surrogateescape")


@functools.lru_cache(maxsize=256)
def parse_s3(uri: str) -> S3Prefix:
    """Parse ``s3://bucket/prefix``, with the queries region, endpoint_override and scheme.

    Escapes are decoded. Names that Arrow, boto3 or a server would shorten, normalise or read differently are refused:
    two different names must never be the same folder.
    Raises :class:`ConfigError`.
    """
    shown = re.sub(r"//[^/]*@", "//...@", uri)  # never print credentials
    if not uri.startswith("s3://"):
        raise _unusable(shown, "another scheme", "Write s3://, or give a local path")
    if "#" in uri:
        raise _unusable(shown, "#, which begins a fragment", "Write %23 for a # in a name")
    if _CONTROL.search(uri) or uri != uri.strip():
        raise _unusable(repr(shown), "spaces around it, a line break or another control character", "Correct it")
    address, mark, query = uri.removeprefix("s3://").partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    if mark and (not pairs or set(pairs) - set(_QUERY) or not all(pairs.values())):
        raise _unusable(shown, "?, which begins a query", "Write %3F for a ? in a name")
    bucket, _, rest = address.partition("/")
    if not bucket or "@" in bucket or ":" in bucket or "%" in bucket:
        advice = "Credentials and the server's address belong in the environment (AWS_*)"
        raise _unusable(shown, "no name of a bucket", advice)
    prefix = _decoded(rest.removesuffix("/"), shown)
    parts = prefix.split("/") if prefix else []
    if not all(parts):
        raise _unusable(shown, "an empty name between two slashes", "Remove one slash")
    if "." in parts or ".." in parts:
        raise _unusable(shown, ". or .. as a folder", "Write the path without it")
    host = pairs.get("endpoint_override")
    endpoint = f"{pairs.get('scheme', 'https')}://{host}" if host else None
    return S3Prefix(bucket, f"{prefix}/" if prefix else "", pairs.get("region"), endpoint)


def _decoded(path: str, shown: str) -> str:
    try:
        text = unquote(path, errors="strict")
        text.encode()
    except UnicodeError:
        raise _unusable(ascii(shown), "bytes that are not UTF-8", "Rename the folder") from None
    if _CONTROL.search(text):
        raise _unusable(shown, "a control character", "Rename the folder")
    return text


def _unusable(shown: str, got: str, advice: str) -> ConfigError:
    return ConfigError(f"{shown}: got an unusable URI ({got}), expected s3://bucket/prefix. {advice}")


def check_place(uri: str, *, with_query: bool = True) -> str:
    """Check a folder of the settings, and return it with a leading ``~`` expanded. Raises :class:`ConfigError`.

    ``with_query``: an ``s3://`` URI may state region and server.
    """
    if not uri.strip():
        raise ConfigError(f"{uri!r}: got an empty name, expected a folder or s3://bucket/prefix")
    if is_local(uri) and not _SCHEME.match(uri):
        expanded = expand_home(uri)
        if expanded == uri and re.match(r"~[^/]*/", uri):
            advice = f"Write ./{uri} for a folder of that name"
            raise ConfigError(f"{uri}: got the home of an unknown user, expected one that exists. {advice}")
        local_path(expanded)
        return expanded
    if is_local(uri):
        local_path(uri)
        return uri
    parse_s3(uri)
    if "?" in uri and not with_query:
        raise _unusable(uri, "a query", "Set AWS_ENDPOINT_URL and AWS_REGION in the environment")
    return uri


def expand_home(path: str) -> str:
    """Replace a leading ``~`` or ``~user/`` by the home folder; a path of an unknown user is unchanged.

    ``~backup`` without a slash is a file name, since systems have users such as backup, games and mail.
    """
    is_home = path == "~" or re.match(r"~[^/]*/", path)
    return os.path.expanduser(path) if is_home else path  # noqa: PTH111 -- keeps the other parts as they are
