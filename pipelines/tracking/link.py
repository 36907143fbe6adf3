"""The connection to a tracking server: connecting takes bounded time; later failures only warn."""

from __future__ import annotations

import getpass
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hfd.errors import ConfigError, HfdError
from pipelines.tracking.client import is_permanent, open_client
from pipelines.tracking.database import is_file, mistake
from pipelines.tracking.redaction import one_line, redact, tag_texts
from pipelines.tracking.settings import TrackingSettings, check_uri
from pipelines.tracking.stale import close_stale, process_tags

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_CONTACT_SECONDS = 30.0
RETRY_SECONDS = (0.5, 1.0, 2.0)


class Link:
    """An open connection: the client, the experiment and the tags of every run of this process."""

    def __init__(self, settings: TrackingSettings, uri: str) -> None:
        self.settings = settings
        self.uri = uri
        self.client = open_client(uri)
        self.experiment_id = _experiment_id(self.client, settings)
        self._away = False

    def attempt(self, what: str, call: Callable[[], T]) -> T | None:
        """Call; retry after 0.5, 1 and 2 s if the server is unavailable, then warn and return None.

        There are no retries if the previous call failed, so that an outage is waited for only once.
        """
        for pause in (*(() if self._away else RETRY_SECONDS), None):
            try:
                result = call()
            except Exception as exc:  # no error of mlflow stops the work
                if pause is None or is_permanent(exc):
                    self._away = not is_permanent(exc)
                    log.warning("tracking: could not %s (%s)", what, one_line(exc))
                    return None
                time.sleep(pause)
            else:
                self._away = False
                return result
        return None

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a RUNNING run and return its id. Raises mlflow's errors."""
        named = {"mlflow.runName": name, "mlflow.user": _user(), **process_tags(), **tag_texts(tags)}
        return str(self.client.create_run(self.experiment_id, tags=named).info.run_id)


def connect(settings: TrackingSettings, uri: str, name: str, tags: Mapping[str, str]) -> tuple[Link, str]:
    """Connect and create the parent run, in bounded time unless the database is a file; return both."""
    check_uri(uri)

    def contact() -> tuple[Link, str]:
        link = Link(settings, uri)
        link.attempt("close the runs of dead processes", lambda: close_stale(link.client, link.experiment_id))
        return link, link.start(name, tags)

    try:
        # Creating tables in a file takes seconds on a slow disk but always ends; a server may never answer.
        return contact() if is_file(uri) else within(FIRST_CONTACT_SECONDS, contact)
    except HfdError:
        raise
    except Exception as exc:
        if is_file(uri):
            raise mistake(uri, exc) from exc
        raise HfdError(
            f"tracking.uri: got {redact(uri)}, expected a tracking server that answers "
            f"({one_line(exc)[:300]}). Start it, correct the address, or set tracking.uri=null."
        ) from exc


def within(seconds: float, call: Callable[[], T]) -> T:
    """Call in a daemon thread; raise ``TimeoutError``, since name look-ups and drivers have no time limit."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=work, name="hfd-first-contact", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    return results[0]


def _experiment_id(client: Any, settings: TrackingSettings) -> str:
    name = settings.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=settings.artifact_root))
        except Exception:
            found = client.get_experiment_by_name(name)  # created by another process meanwhile?
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment: got {name}, a deleted experiment, expected another name. Or restore it: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())
