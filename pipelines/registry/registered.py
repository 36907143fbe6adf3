"""All models of a registry that were registered from a training step, by the digest of that step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hfd.config import Config
from hfd.errors import HfdError
from pipelines.registry.champion import DIGEST, unanswered
from pipelines.tracking.client import open_client
from pipelines.tracking.database import is_file
from pipelines.tracking.link import FIRST_CONTACT_SECONDS, within
from pipelines.tracking.settings import check_uri, database_file, tracking_settings

_PAGE = 200


def registered_models(config: Config) -> dict[str, str]:
    """Return what each registered digest is: ``coco256 version 3, champion``; empty without tracking.

    All models of the registry count, since several may come from one workspace. A database file that does not exist is
    not made. Raises :class:`HfdError` with one line if the registry does not answer.
    """
    uri = tracking_settings(config).uri
    if uri is None:
        return {}
    check_uri(uri)
    if is_file(uri) and not database_file(uri).exists():
        return {}
    try:
        client = open_client(uri)
        if not is_file(uri):
            within(FIRST_CONTACT_SECONDS, lambda: client.search_registered_models(max_results=1))
        return _by_digest(client)
    except HfdError:
        raise
    except Exception as error:
        raise unanswered(uri, error) from error


def _by_digest(client: Any) -> dict[str, str]:
    aliases: dict[tuple[str, str], list[str]] = defaultdict(list)
    for model in _pages(client.search_registered_models):
        for alias, version in client.get_registered_model(model.name).aliases.items():
            aliases[model.name, str(version)].append(alias)
    found: dict[str, list[str]] = defaultdict(list)
    for version in _pages(client.search_model_versions):
        if DIGEST in version.tags:
            names = [f"{version.name} version {version.version}", *sorted(aliases[version.name, str(version.version)])]
            found[version.tags[DIGEST]].append(", ".join(names))
    return {digest: "; ".join(sorted(texts)) for digest, texts in found.items()}


def _pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
