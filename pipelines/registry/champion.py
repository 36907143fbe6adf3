"""Register versions of a model, and move, compare and roll back its champion.

Aliases ``champion`` and ``previous`` are for users and ``models:/NAME@champion``; a rollback reads the tag
``hfd.previous``. Processes that move the champion of one model take turns (:mod:`pipelines.registry.turns`), and each
moves it only from the version that it has seen. The tag ``hfd.champion`` of the model names the champion after MLflow
has deleted the alias of a deleted version.
"""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfd.config import Config
from hfd.errors import ConfigError, DataError, HfdError
from hfd.io.storage import Folder, write_file
from hfd.io.weights import fingerprint_of
from pipelines.registry.aliases import CHAMPION, NAMED, PREVIOUS, Aliases
from pipelines.registry.artifacts import FILES, FINGERPRINT, PARTS, Artifacts
from pipelines.registry.turns import Turn, run_of_turns, turn
from pipelines.runs.step import digest_of
from pipelines.tracking.client import is_missing, open_client
from pipelines.tracking.database import is_file, mistake
from pipelines.tracking.link import FIRST_CONTACT_SECONDS, within
from pipelines.tracking.redaction import one_line, redact, tag_texts
from pipelines.tracking.settings import check_uri, tracking_settings

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
        """Return the champion; None if there is no champion or model, or its version was deleted."""
        with self._one_line_errors():
            number = self._aliases.champion()
            return self._version(number) if number is not None else None

    def deleted_champion(self) -> int | None:
        """Return the number of a champion whose version was deleted; None if there is a champion, or never was one."""
        with self._one_line_errors():
            return self._aliases.deleted_champion()

    def describe_deleted(self, number: int) -> str:
        """Return a line for a deleted champion, with the command that makes the one before it champion again."""
        with self._one_line_errors():
            earlier = self._aliases.previous()
        remedy = (
            "A promotion now compares with nothing"
            if earlier is None
            else f"hfd rollback makes version {earlier} champion again; until then, a promotion compares with nothing"
        )
        return f"promote.model: version {number}, the champion of {self.model}, was deleted: there is none. {remedy}"

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
                        write_file(Path(scratch) / name, files.read(name))
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
        with self._turn(version.number) as mine:
            self._expect(before)
            earlier = before.number if before is not None else self._aliases.previous()
            if earlier not in (None, version.number):
                self.client.set_model_version_tag(self.model, str(version.number), BEFORE, str(earlier))
            if before is not None:
                self._point(PREVIOUS, before.number)
            mine.check()
            try:
                with self._one_line_errors():
                    self.client.set_registered_model_alias(self.model, CHAMPION, str(version.number))
            except HfdError:
                # A person who inserts the alias at the same moment: one fails on the database's unique key.
                if (now := self.champion()) is None or now.number != version.number:
                    self._expect(before)
                    self._point(CHAMPION, version.number)
            self._expect(version)
            self.client.set_registered_model_tag(self.model, NAMED, str(version.number))

    @contextlib.contextmanager
    def _turn(self, number: int) -> Iterator[Turn]:
        """Hold the turn of the model. Raises :class:`ConfigError` if version ``number`` was deleted."""
        with self._one_line_errors():
            self.client.get_model_version(self.model, str(number))
            run_id = run_of_turns(self.client, self.model)
            if run_id is None:
                raise ConfigError(
                    f"promote.model: the runs of all versions of {self.model} were deleted, expected one that orders "
                    "promotions. Restore one with mlflow runs restore --run-id RUN"
                )
            with turn(self.client, run_id) as mine:
                yield mine

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
        deleted = self.deleted_champion() if champion is None else None
        source = "--to" if to is not None else BEFORE
        number = to if to is not None else self._before(champion)
        with self._one_line_errors():
            target = self._existing(number, source)
        if champion is not None and target.number == champion.number:
            return f"{self.model}: version {number} is champion already"
        with self._turn(number) as mine:
            self._expect(champion)
            if champion is not None:
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                self.client.set_model_version_tag(self.model, str(champion.number), ROLLED_BACK, now)
            if ROLLED_BACK in target.tags:
                self.client.delete_model_version_tag(self.model, str(number), ROLLED_BACK)
            mine.check()
            self._point(CHAMPION, number)
            self.client.set_registered_model_tag(self.model, NAMED, str(number))
        if champion is not None:
            was = f"version {champion.number}. Undo with --to {champion.number}"
        else:
            was = "none" if deleted is None else f"version {deleted}, which was deleted"
        return f"{self.model}: version {number} is champion, was {was}"

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

    def _before(self, champion: Version | None) -> int:
        """Return the number of the champion before this one; None: before one that was deleted."""
        if champion is None:
            with self._one_line_errors():
                earlier = self._aliases.previous()
            if earlier is None:
                raise ConfigError(f"promote.model: {self.model} has no champion, expected one. Give --to VERSION")
            return earlier
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

    @property
    def _aliases(self) -> Aliases:
        return Aliases(self.client, self.model)

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
