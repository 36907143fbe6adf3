"""Boto3 clients, and the errors of S3 servers as one line. Credentials come from the environment."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from hfd.errors import ConfigError, DataError

CONNECT_S, READ_S = 10, 60

CONNECTIONS = 16
"""Connections that a process keeps open."""

_CREDENTIAL_CODES = {
    "SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidClientTokenId", "ExpiredToken", "InvalidToken",
    "RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "TokenRefreshRequired", "RequestExpired",
    "ExpiredTokenException",
}  # fmt: skip


_ACCOUNT_CODES = {"AccountProblem", "AllAccessDisabled", "NotSignedUp", "InvalidPayer"}
"""Codes of 403 responses about a whole account or bucket, not one object."""


class Connection(NamedTuple):
    """Botocore's session, and the client made with it. Threads share clients; they must not make them at once."""

    session: Any
    client: Any


def connect(
    region: str | None = None,
    endpoint: str | None = None,
    *,
    connect_s: float = CONNECT_S,
    read_s: float = READ_S,
    attempts: int = 7,
) -> Connection:
    """Make a client; None: as the environment sets it. This takes a tenth of a second.

    Raises:
        ConfigError: the endpoint of the environment is unusable.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=connect_s,
        read_timeout=read_s,
        retries={"mode": "standard", "total_max_attempts": attempts},
        parameter_validation=False,  # avoids processor time on every call
    )
    try:
        session = boto3.session.Session()
        session._session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
        return Connection(
            session._session, session.client("s3", region_name=region, endpoint_url=endpoint, config=config)
        )
    except (BotoCoreError, ValueError) as error:
        brief = " ".join(str(error).split())[:200]
        raise ConfigError(f"AWS_ENDPOINT_URL: not usable ({brief}). Correct the environment") from error


def parse_time(value: Any) -> datetime.datetime:
    """Return the time of an answer: what botocore returns, whose parser takes two thirds of the time of a listing."""
    try:
        found = datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        from botocore.utils import parse_timestamp

        return parse_timestamp(value)  # type: ignore[no-any-return]
    return found


@contextlib.contextmanager
def one_line(what: str) -> Iterator[None]:
    """Raise botocore's errors as a :class:`DataError` of one line about ``what``."""
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
    except BotoCoreError as error:  # failed, timed-out or broken connections, after all attempts
        raise DataError(
            f"{what}: no connection to the server ({type(error).__name__}). Check AWS_ENDPOINT_URL and the network",
            reason="connection",
        ) from error


def _refusal(what: str, response: dict[str, Any]) -> DataError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    text = " ".join(str(response.get("Error", {}).get("Message", "")).split())[:200]
    if code == "PreconditionFailed" or status == 412:
        return DataError(
            f"{what}: got another object, expected the one that was listed. Run again to list anew", reason="changed"
        )
    if code == "NoSuchBucket":
        return DataError(f"{what}: got no such bucket, expected one that exists. Correct the URI", reason="missing")
    if code in ("NoSuchKey", "404"):
        return DataError(f"{what}: got no such object, expected the one that was listed", reason="missing")
    if code in _CREDENTIAL_CODES:
        # An outage, which stops the run: an expired token must not reject photographs.
        return DataError(
            f"{what}: the server refuses ({code}). Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL "
            "in the environment",
            reason="connection",
        )
    if code == "InvalidObjectState":
        found = response.get("Error", {})
        return archived(what, str(found.get("AccessTier") or found.get("StorageClass") or "its archive"))
    if re.search(r"Disabled|InvalidState|NotFound|KeyUnavailable", code) and "KMS" in code:
        return DataError(
            f"{what}: got an object whose KMS key cannot be used ({code}), expected a key that is enabled. Enable or "
            "restore the key, or leave the object out",
            reason="encrypted",
        )
    if code in ("InvalidRequest", "InvalidArgument") and "encryption" in text.lower():
        return DataError(
            f"{what}: got an object encrypted with a key of its owner (SSE-C), expected one that the server decrypts. "
            "Copy it without that key, or leave it out",
            reason="encrypted",
        )
    if code in _ACCOUNT_CODES:
        return DataError(f"{what}: the server refuses the account ({code}). Ask its owner", reason="connection")
    if status in (401, 403):
        return DataError(f"{what}: the server refuses ({code}). Ask for the right to access it", reason="permission")
    return DataError(f"{what}: the server answers {code or status}. Run the same command again", reason="connection")


def archived(what: str, kind: str) -> DataError:
    """Return the error for an object of an archive class, which its owner has to restore before it can be read."""
    return DataError(
        f"{what}: got an object in {kind}, expected one that can be read. Restore it from {kind}, or leave it out",
        reason="archived",
    )
