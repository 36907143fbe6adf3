"""Register versions of a model, and move, compare and roll back its champion.

Aliases ``champion`` and ``previous`` are for users and ``models:/NAME@champion``; a rollback reads the tag
``hfd.previous``. MLflow moves an alias unconditionally: two workspaces that promote into one model within the same
second are not serialised; two runs on one workspace are (:mod:`pipelines.runs.lease`).
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfd.config import Config
from hfd.errors import ConfigError, DataError, HfdError
from hfd.io.storage import Folder
from hfd.io.weights import fingerprint_of
from pipelines.registry.artifacts import FILES, FINGERPRINT, PARTS, Artifacts
from pipelines.runs.step import digest_of
from pipelines.tracking.client import is_missing, open_client
from pipelines.tracking.database import is_file, mistake
from pipelines.tracking.link import FIRST_CONTACT_SECONDS, within
from pipelines.tracking.redaction import one_line, redact, tag_texts
from pipelines.tracking.settings import check_uri, tracking_settings

log = logging.getLogger(__name__)

CHAMPION, PREVIOUS = "champion", "previous"

ARTIFACTS = "model"
DIGEST, BEFORE, ROLLED_BACK = "hfd.digest", "hfd.previous", "hfd.rolled_back"


@dataclass(frozen=True)
class Version:
    """A version of the registered model; ``digest`` is the digest of the training step that made it."""

    number: int
    digest: str
    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registry:
    """A registered model on a server. Every method raises :class:`HfdError` with one line if it does not answer."""

    client: Any
    uri: str
    model: str

    def champion(self) -> Version | None:
        """Return the champion; None if there is no champion or model, or the alias points to a deleted version."""
        with self._one_line_errors():
            number = self._aliases().get(CHAMPION)
            try:
                return self._version(number) if number is not None else None
            except Exception as error:
                if not is_missing(error):
                    raise
        # Servers of MLflow before 2026-08 keep an alias whose version is deleted.
        log.warning(
            "promote.model: the alias %s of %s points to version %s, which was deleted: there is no champion",
            CHAMPION, self.model, number,
        )  # fmt: skip
        return None

    def find(self, digest: str) -> Version | None:
        """Return the first version of a digest."""
        with self._one_line_errors():
            found = self.numbers_of(digest)
            return self._version(found[0]) if found else None

    def register(self, files: Folder, digest: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Return the existing version of a digest, or register a new one with files in the run's artifacts."""
        with self._one_line_errors():
            if not (found := self.numbers_of(digest)):
                self._create_model()
                fingerprints = {f"{FINGERPRINT}{part}": fingerprint_of(files / part) for part in PARTS}
                with tempfile.TemporaryDirectory(prefix="hfd-register-") as scratch:
                    for name in FILES:
                        path = Path(scratch) / name
                        path.parent.mkdir(exist_ok=True)
                        path.write_bytes(files.read(name))
                    self.client.log_artifacts(run_id, scratch, ARTIFACTS)
                source = f"{self.client.get_run(run_id).info.artifact_uri}/{ARTIFACTS}"
                made = self.client.create_model_version(
                    self.model, source, run_id, tags={**tag_texts(tags), **fingerprints, DIGEST: digest}
                )
                found = self.numbers_of(digest)
                if found[0] != int(made.version):  # another workspace registered the same at the same time
                    self.client.delete_model_version(self.model, made.version)
            return self._version(found[0])

    def make_champion(self, version: Version, before: Version | None) -> None:
        """Make a version champion in place of ``before``. The alias moves last, so that a failure changes no champion.

        Raises :class:`HfdError` if the champion is no longer ``before``.
        """
        self._expect(before)
        with self._one_line_errors():
            if before is not None:
                self.client.set_model_version_tag(self.model, str(version.number), BEFORE, str(before.number))
                self._point(PREVIOUS, before.number)
        try:
            with self._one_line_errors():
                self.client.set_registered_model_alias(self.model, CHAMPION, str(version.number))
        except HfdError:
            # Two servers or threads that insert an alias at once: one fails on the database's unique key.
            if (now := self.champion()) is not None and now.number == version.number:
                return
            self._expect(before)
            self._point(CHAMPION, version.number)
        self._expect(version)

    def _expect(self, expected: Version | None) -> None:
        """Raise :class:`HfdError` unless this version is the champion."""
        now = self.champion()
        if (now.number if now else None) != (expected.number if expected else None):
            raise HfdError(
                f"promote.model: the champion of {self.model} became {f'version {now.number}' if now else 'none'} "
                "meanwhile. Run the same command again to compare with it"
            )

    def _point(self, alias: str, number: int) -> None:
        """Set an alias; retry once if another process inserted it at the same moment."""
        with self._one_line_errors():
            try:
                self.client.set_registered_model_alias(self.model, alias, str(number))
            except Exception as error:
                if is_missing(error):
                    raise
                self.client.set_registered_model_alias(self.model, alias, str(number))

    def rollback(self, to: int | None) -> str:
        """Make the previous champion, or version ``to``, champion again; return a line that states it.

        The replaced version is tagged, so that no run promotes it again automatically.
        Raises :class:`ConfigError` if there is no version to return to.
        """
        champion = self.champion()
        if champion is None and to is None:
            raise ConfigError(f"promote.model: {self.model} has no champion, expected one. Give --to VERSION")
        number = to if to is not None or champion is None else self._before(champion)
        assert number is not None
        with self._one_line_errors():
            target = self._existing(number, "--to" if to is not None else BEFORE)
            if champion is not None and target.number == champion.number:
                return f"{self.model}: version {number} is champion already"
            if champion is not None:
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                self.client.set_model_version_tag(self.model, str(champion.number), ROLLED_BACK, now)
            if ROLLED_BACK in target.tags:
                self.client.delete_model_version_tag(self.model, str(number), ROLLED_BACK)
            self._point(CHAMPION, number)
        left = f"was version {champion.number}. Undo with --to {champion.number}" if champion else "was none"
        return f"{self.model}: version {number} is champion, {left}"

    def fetch(self, version: Version, folder: Folder) -> None:
        """Copy a version's files into a folder. Raises :class:`DataError` if they do not match its digest."""
        with self._one_line_errors():
            source = str(self.client.get_model_version_download_uri(self.model, str(version.number))).rstrip("/")
        artifacts = Artifacts(self.uri, f"promote.model: {self.model} version {version.number}", source)
        for part in PARTS:
            artifacts.fetch(part, folder / part)
        if model_digest(folder) != version.digest:
            raise DataError(
                f"promote.model: the files of {self.model} version {version.number} differ from those registered "
                f"({version.digest[:8]}). Roll back to another version with hfd rollback --to VERSION"
            )

    def _before(self, champion: Version) -> int:
        text = champion.tags.get(BEFORE, "")
        if not text.isdigit():
            raise ConfigError(
                f"promote.model: version {champion.number} of {self.model} was the first champion, expected one before "
                "it. Name another with --to VERSION"
            )
        return int(text)

    def _existing(self, number: int, source: str) -> Version:
        numbers = sorted(int(found.version) for found in self.client.search_model_versions(f"name='{self.model}'"))
        if number not in numbers:
            known = ", ".join(map(str, numbers)) or "none"
            advice = "" if source == "--to" else ". It was deleted: name another with --to VERSION"
            raise ConfigError(f"{source}: got {number}, expected a version of {self.model} ({known}){advice}")
        return self._version(number)

    def _aliases(self) -> dict[str, int]:
        try:
            found = self.client.get_registered_model(self.model)
        except Exception as error:
            if is_missing(error):
                return {}
            raise
        return {alias: int(number) for alias, number in found.aliases.items()}

    def numbers_of(self, digest: str) -> list[int]:
        found = self.client.search_model_versions(f"name='{self.model}' and tags.`{DIGEST}`='{digest}'")
        return sorted(int(version.version) for version in found)

    def _version(self, number: int) -> Version:
        found = self.client.get_model_version(self.model, str(number))
        if DIGEST not in found.tags or not found.run_id:
            raise ConfigError(
                f"promote.model: version {number} of {self.model} was not registered by hfd (no tag {DIGEST}), "
                "expected one that was. Give another name, or move the alias champion"
            )
        return Version(number, found.tags[DIGEST], found.run_id, dict(found.tags))

    def _create_model(self) -> None:
        try:
            self.client.create_registered_model(self.model)
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        """Convert errors of the server's client to one line."""
        try:
            yield
        except (HfdError, AssertionError, AttributeError, KeyError, TypeError):  # the user's, or bugs here
            raise
        except Exception as error:
            if is_missing(error):
                raise ConfigError(
                    f"promote.model: got {self.model}, expected the registry at {redact(self.uri)} to still have it "
                    f"({one_line(error)[:300]}). It was deleted: run the same command again, or name another version"
                ) from error
            raise unanswered(self.uri, error) from error


def open_registry(config: Config) -> Registry:
    """Return the registry of a configuration, without a request. Raises :class:`ConfigError` if it names none."""
    settings = tracking_settings(config)
    if config.promote.model is None or settings.uri is None:
        raise ConfigError("promote.model: missing, expected the name of a registered model. Set promote.model=NAME")
    check_uri(settings.uri)
    model, uri = config.promote.model, settings.uri
    try:
        # Opening a file may take longer than a connection, and always ends: see pipelines.tracking.link.
        client = open_client(uri)
        if not is_file(uri):
            within(FIRST_CONTACT_SECONDS, lambda: client.search_registered_models(max_results=1))
    except HfdError:
        raise
    except Exception as error:
        raise unanswered(uri, error) from error
    return Registry(client, uri, model)


def unanswered(uri: str, error: BaseException) -> HfdError:
    """Return one line for a registry that did not answer as expected."""
    if is_file(uri):
        return mistake(uri, error)
    return HfdError(
        f"tracking.uri: got {redact(uri)}, expected its model registry to answer ({one_line(error)[:300]}). "
        "Run the same command again once it does: finished work is kept"
    )


def model_digest(folder: Folder) -> str:
    """Return the digest of a model folder, equal to that of the step that made it."""
    return digest_of([fingerprint_of(folder / "autoencoder"), fingerprint_of(folder / "decoder")])
