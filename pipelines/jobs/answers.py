"""Errors of a Ray job server, each as one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hfd.errors import HfdError
from pipelines.tracking.redaction import redact


class UnreachableError(HfdError):
    """A job server that does not answer."""


class TakenError(Exception):
    """The submission id exists."""


@contextlib.contextmanager
def answers(address: str, name: str = "") -> Iterator[None]:
    """Convert errors of requests about the job ``name``, or of a missing server, to one line."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise HfdError(
            f"{address}: refused the token, expected the cluster's. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH"
        ) from error
    except (OSError, requests.exceptions.RequestException) as error:
        raise UnreachableError(f"{address}: no job server answers ({brief(_root(error))})") from error
    except RuntimeError as error:
        if "already exists" in str(error):
            raise TakenError from error
        if "status code 404" in str(error):
            raise HfdError(f"{name}: got no such job at {address}, expected one that hfd jobs lists") from error
        if "status code 5" in str(error):
            raise UnreachableError(f"{address}: answers with an error ({brief(error)})") from error
        raise HfdError(f"{address}: refused the request ({brief(error)})") from error


def _root(error: BaseException) -> BaseException:
    """Return the first cause of an error, which libraries have wrapped in their own errors."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def brief(error: object) -> str:
    """Return an error or message on one line of at most 200 characters, without credentials."""
    text = redact(" ".join(str(error).split()))
    return text if len(text) <= 200 else f"{text[:200]}…"
