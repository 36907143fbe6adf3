"""The files of registered models: their names, size limits and download."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from pipelines.tracking.client import is_missing, open_client
from pipelines.tracking.database import is_file, mistake
from pipelines.tracking.redaction import one_line, redact
from pipelines.tracking.settings import check_uri

MAX_BYTES = {"weights.safetensors": 32 * 2**30, "config.json": 2**20}
"""Files of each part of a model, the configuration last, with the largest size of each in bytes."""

PARTS = ("autoencoder", "decoder")
FILES = tuple(f"{part}/{name}" for part in PARTS for name in MAX_BYTES)
"""The files that are registered or fetched."""

FINGERPRINT = "hfd.fingerprint."
"""Prefix of a tag, before a part: SHA-256 of its two files, so that a dry run need not fetch them."""

_MODEL = re.compile(r"models:/(?P<name>[A-Za-z0-9][A-Za-z0-9._ -]*)(@(?P<alias>[A-Za-z0-9._-]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Artifacts:
    """The files of a model version: ``source`` holds ``autoencoder/`` and ``decoder/``; ``label`` is for messages.

    ``folder_name`` is unique to the version, even if a registry was created again under the same name.
    ``fingerprints``: per part, if the version has tags for them.
    """

    uri: str
    label: str
    source: str
    folder_name: str = ""
    fingerprints: tuple[tuple[str, str], ...] = ()

    def fetch(self, part: str, folder: Folder) -> None:
        """Copy a part into ``folder``, ``config.json`` last. Raises :class:`DataError` if it cannot be read."""
        from mlflow.artifacts import download_artifacts, list_artifacts
        from mlflow.exceptions import MlflowException

        where = f"{self.source}/{part}"
        try:
            listed = list_artifacts(artifact_uri=where, tracking_uri=self.uri) or []
            self._check({Path(entry.path).name: entry.file_size for entry in listed if not entry.is_dir}, part)
            with tempfile.TemporaryDirectory(prefix="hfd-model-") as scratch:
                for name in MAX_BYTES:
                    path = download_artifacts(artifact_uri=f"{where}/{name}", dst_path=scratch, tracking_uri=self.uri)
                    folder.write(name, Path(path).read_bytes())
        except (MlflowException, OSError) as error:
            if is_missing(error) or isinstance(error, FileNotFoundError):
                raise DataError(
                    f"{self.label}: got no {part} in the registry's artifact store ({one_line(error)[:300]}), expected "
                    "the registered files. Name another version",
                    reason="missing",
                ) from error
            raise DataError(
                f"{self.label}: {part} cannot be read ({one_line(error)[:300]}). Check the registry's artifact store, "
                "and the credentials for it in the environment",
                reason="io",
            ) from error

    def _check(self, sizes: Mapping[str, int | None], part: str) -> None:
        for name, largest in MAX_BYTES.items():
            if name not in sizes:
                raise DataError(
                    f"{self.label}: got no {part}/{name}, expected a model with its {part}. Name another version",
                    reason="missing",
                )
            if (sizes[name] or 0) > largest:
                raise DataError(
                    f"{self.label}: got {part}/{name} of {sizes[name]} bytes, expected at most {largest}. "
                    "Name another version",
                    reason="too-large",
                )


def find_artifacts(uri: str | None, model: str) -> Artifacts:
    """Resolve ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``. Raises :class:`ConfigError`."""
    match = _MODEL.fullmatch(model)
    if match is None:
        raise ConfigError(f"warm_start: got {model}, expected models:/NAME@ALIAS or models:/NAME/VERSION. Correct it")
    if uri is None:
        raise ConfigError(
            f"tracking.uri: got null with the registered model {model}, expected the MLflow server with it.  "
            "Or give a folder as warm_start"
        )
    check_uri(uri)
    from mlflow.exceptions import MlflowException

    try:
        client = open_client(uri)
        found = (
            client.get_model_version_by_alias(match["name"], match["alias"])
            if match["alias"]
            else client.get_model_version(match["name"], match["version"])
        )
        source = str(client.get_model_version_download_uri(found.name, found.version)).rstrip("/")
    except MlflowException as error:
        if not is_missing(error) and getattr(error, "error_code", None) != "INVALID_PARAMETER_VALUE":
            if is_file(uri):
                raise mistake(uri, error) from error
            raise ConfigError(
                f"tracking.uri: got {redact(uri)}, expected a registry that answers ({one_line(error)[:300]}). "
                "Start it, correct the address, or give a folder as warm_start"
            ) from error
        raise ConfigError(
            f"warm_start: got {model}, expected a model of the registry at {redact(uri)}: "
            f"{_known_models(client, match['name'], match['alias'])}"
        ) from error
    identity = f"{found.name} {found.version} {found.creation_timestamp} {source}"
    folder = f"{found.name}-{found.version}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    tags = {part: found.tags.get(f"{FINGERPRINT}{part}") for part in PARTS}
    known = tuple((part, text) for part, text in tags.items() if text is not None)
    return Artifacts(uri, f"{model} (version {found.version})", source, folder, known)


def _known_models(client: Any, name: str, wanted: str | None) -> str:
    """Describe the model's aliases and newest version or, if there is no such model, list the models.

    Aliases of deleted versions, which servers of MLflow before 2026-08 keep, are left out, except ``wanted``.
    """
    models = list(client.search_registered_models(max_results=100))
    for one in models:
        if one.name == name:
            numbers = {int(version.version) for version in client.search_model_versions(f"name='{name}'")}
            valid = [f"@{alias}" for alias, number in sorted(one.aliases.items()) if int(number) in numbers]
            has = f"{name} has the aliases {', '.join(valid) or 'none'} and versions up to {max(numbers, default=0)}"
            if wanted in one.aliases and f"@{wanted}" not in valid:
                return f"@{wanted} points to version {one.aliases[wanted]}, which was deleted. {has}"
            return has
    return f"it has {', '.join(one.name for one in models[:10]) or 'no models'}"
