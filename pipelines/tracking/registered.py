"""Models of the registry as a source of weights. Two files of a version are read, and nothing of them is run."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfd.errors import ConfigError, DataError
from pipelines.tracking.client import open_client
from pipelines.tracking.redaction import one_line, redact
from pipelines.tracking.settings import check_uri

SCHEME = "models:/"
LARGEST_BYTES = {"weights.safetensors": 32 * 2**30, "config.json": 2**20}
"""What a part of a model consists of, the configuration last, and how large each file may be."""

_MODEL = re.compile(r"models:/(?P<name>[A-Za-z0-9][A-Za-z0-9._ -]*)(@(?P<alias>[A-Za-z0-9._-]+)|/(?P<version>\d+))")


def is_registered(model: str) -> bool:
    """Whether a model is named by its place in a registry."""
    return model.startswith(SCHEME)


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a model in the registry at ``uri``; ``source`` holds ``autoencoder/`` and ``decoder/``.

    ``digest`` tells it from the same number in a registry that was made anew.
    """

    uri: str
    model: str
    name: str
    version: str
    source: str
    digest: str

    def download(self, part: str) -> dict[str, bytes]:
        """The files of a part by name, the configuration last. Raises :class:`DataError` where one is not there."""
        from mlflow.artifacts import download_artifacts, list_artifacts
        from mlflow.exceptions import MlflowException

        where = f"{self.source}/{part}"
        try:
            listed = list_artifacts(artifact_uri=where, tracking_uri=self.uri) or []
            sizes = {Path(entry.path).name: entry.file_size for entry in listed if not entry.is_dir}
            _check_sizes(self, part, sizes)
            with tempfile.TemporaryDirectory(prefix="hfd-model-") as scratch:
                paths = {
                    name: download_artifacts(artifact_uri=f"{where}/{name}", dst_path=scratch, tracking_uri=self.uri)
                    for name in LARGEST_BYTES
                }
                return {name: Path(path).read_bytes() for name, path in paths.items()}
        except (MlflowException, OSError) as error:
            raise DataError(
                f"{self.model}: its {part} cannot be read from version {self.version} ({one_line(error)[:300]}). "
                "Check the registry's artifact store, and the credentials for it in the environment",
                reason="io",
            ) from error


def find_version(uri: str | None, model: str) -> RegisteredVersion:
    """What ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` stands for now. Raises :class:`ConfigError`."""
    match = _MODEL.fullmatch(model)
    if match is None:
        raise ConfigError(f"warm_start: got {model}, expected models:/NAME@ALIAS or models:/NAME/VERSION. Correct it")
    if uri is None:
        raise ConfigError(
            f"tracking.uri: got null with the registered model {model}, expected the MLflow server that has it. "
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
        if getattr(error, "error_code", None) not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise ConfigError(
                f"tracking.uri: got {redact(uri)}, expected a registry that answers ({one_line(error)[:300]}). "
                "Start it, correct the address, or give a folder as warm_start"
            ) from error
        raise ConfigError(
            f"warm_start: got {model}, expected a model of the registry at {redact(uri)}: "
            f"{_what_there_is(client, match['name'])}"
        ) from error
    identity = f"{found.name} {found.version} {found.creation_timestamp} {source}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return RegisteredVersion(uri, model, str(found.name), str(found.version), source, digest)


def _what_there_is(client: Any, name: str) -> str:
    """The model's aliases and newest version, or the models, for whoever mistyped one."""
    models = list(client.search_registered_models(max_results=100))
    for one in models:
        if one.name == name:
            aliases = ", ".join(f"@{alias}" for alias in sorted(one.aliases)) or "none"
            newest = max(
                (int(version.version) for version in client.search_model_versions(f"name='{name}'")), default=0
            )
            return f"{name} has the aliases {aliases} and versions up to {newest}"
    return f"it has {', '.join(one.name for one in models[:10]) or 'no models'}"


def _check_sizes(version: RegisteredVersion, part: str, sizes: dict[str, int | None]) -> None:
    for name, largest in LARGEST_BYTES.items():
        if name not in sizes:
            raise DataError(
                f"{version.model}: got version {version.version} without {part}/{name}, expected a model with its "
                f"{part}. Name another version",
                reason="missing",
            )
        size = sizes[name]
        if size is not None and size > largest:
            raise DataError(
                f"{version.model}: got {part}/{name} of {size} bytes, expected at most {largest}", reason="too-large"
            )
