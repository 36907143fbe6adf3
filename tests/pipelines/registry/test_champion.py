"""Versions and the champion on a real MLflow server: once each, moved last, rolled back, and never in silence."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hfd.errors import ConfigError, DataError, HfdError
from hfd.io.storage import Folder
from pipelines.registry.artifacts import FILES, MAX_BYTES, find_artifacts
from pipelines.registry.champion import ROLLED_BACK, Registry, Version, model_digest, open_registry
from pipelines.tracking.client import open_client
from tests.support.command_line import Hfd
from tests.support.mlflow_server import Server, free_port
from tests.support.registry import alias, model, register, run_in, versions
from tests.support.tiny_run import tiny_config, tiny_overrides

pytestmark = pytest.mark.integration

ENOUGH = "evaluate.bootstrap_draws=20"
"""Override that a configuration with a registry requires."""


@pytest.fixture
def registry(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Registry:
    """A registered model of the test's own, with no version yet."""
    name = request.node.name.split("[")[0]
    return open_registry(tiny_config(tmp_path, tmp_path, f"tracking.uri={server.uri}", f"promote.model={name}", ENOUGH))


def three(registry: Registry, folder: Path) -> list[Version]:
    """Three champions, one after the other."""
    made: list[Version] = []
    for name in "abc":
        made.append(register(registry, model(folder, name)))
        registry.make_champion(made[-1], made[-2] if len(made) > 1 else None)
    return made


def test_a_version_holds_the_weights_and_nothing_else(registry: Registry, tmp_path: Path) -> None:
    assert registry.champion() is None and registry.find("0") is None
    made = model(tmp_path, "a")
    version = register(registry, made)
    assert (version.number, version.digest) == (1, model_digest(made))
    assert version.tags["hfd.note"] == "s3://***@host/x"
    stored = registry.client.list_artifacts(version.run_id)
    assert [entry.path for entry in stored] == ["model"]
    parts = [
        entry.path
        for part in ("autoencoder", "decoder")
        for entry in registry.client.list_artifacts(version.run_id, f"model/{part}")
    ]
    assert sorted(parts) == sorted(f"model/{name}" for name in FILES)
    found = registry.client.get_model_version(registry.model, "1")
    assert found.source.endswith(f"{version.run_id}/artifacts/model")
    assert registry.champion() is None and registry.find(version.digest) == version


def test_the_same_digest_is_registered_once(registry: Registry, tmp_path: Path) -> None:
    made = model(tmp_path, "a")
    assert register(registry, made) == register(registry, made)
    register(registry, model(tmp_path, "b"))
    assert versions(registry) == [1, 2]


def test_of_two_that_register_the_same_at_once_the_first_stays(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other workspace comes between the look and the creation."""
    made = model(tmp_path, "a")
    looked = Registry.numbers_of

    def numbers(self: Registry, digest: str) -> list[int]:
        found = looked(self, digest)
        monkeypatch.setattr(Registry, "numbers_of", looked)
        register(self, made)
        return found

    monkeypatch.setattr(Registry, "numbers_of", numbers)
    assert register(registry, made).number == 1
    assert versions(registry) == [1]


def test_the_champion_moves_and_its_predecessor_is_known(registry: Registry, tmp_path: Path) -> None:
    first, second, third = three(registry, tmp_path)
    champion = registry.champion()
    assert champion is not None and champion.number == third.number
    assert alias(registry, "previous") == second.number
    assert champion.tags["hfd.previous"] == str(second.number)
    with pytest.raises(
        HfdError, match=r"^promote.model: the champion of \w+ became version 3 meanwhile\. Run the same"
    ):
        registry.make_champion(first, second)
    assert alias(registry, "champion") == third.number


def test_rolling_back_goes_from_champion_to_champion(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    assert registry.rollback(None) == f"{registry.model}: version 2 is champion, was version 3. Undo with --to 3"
    assert registry.rollback(None) == f"{registry.model}: version 1 is champion, was version 2. Undo with --to 2"
    with pytest.raises(ConfigError, match=r"version 1 of \w+ was the first champion, expected one before it\. Name"):
        registry.rollback(None)
    assert ROLLED_BACK in registry.client.get_model_version(registry.model, "3").tags
    assert registry.rollback(3) == f"{registry.model}: version 3 is champion, was version 1. Undo with --to 1"
    assert ROLLED_BACK not in registry.client.get_model_version(registry.model, "3").tags
    assert registry.rollback(3) == f"{registry.model}: version 3 is champion already"
    with pytest.raises(ConfigError, match=r"^--to: got 9, expected a version of \w+ \(1, 2, 3\)$"):
        registry.rollback(9)
    assert alias(registry, "champion") == 3


def test_the_command_prints_one_line(registry: Registry, server: Server, tmp_path: Path, hfd: Hfd) -> None:
    settings = tiny_overrides(
        tmp_path, tmp_path, f"tracking.uri={server.uri}", f"promote.model={registry.model}", ENOUGH
    )
    command = ("rollback", "-c", "demo", *settings)
    assert "has no champion, expected one. Give --to VERSION" in hfd(*command).complaint
    three(registry, tmp_path)
    ended = hfd(*command)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{registry.model}: version 2 is champion, was version 3. Undo with --to 3\n"
    assert hfd(*command).out.startswith(f"{registry.model}: version 1 is champion")
    assert "was the first champion" in hfd(*command).complaint
    assert hfd(*command, "--to", "3").out.startswith(f"{registry.model}: version 3 is champion")
    assert "missing, expected the name of a registered model" in hfd(*command[:-2]).complaint


def test_fetched_files_equal_the_registered_ones(registry: Registry, server: Server, tmp_path: Path) -> None:
    made = model(tmp_path, "a")
    version = register(registry, made)
    registry.fetch(version, Folder(str(tmp_path / "fetched")))
    for name in FILES:
        assert Folder(str(tmp_path / "fetched")).read(name) == made.read(name)
    (weights,) = (server.folder / "artifacts").rglob(f"{version.run_id}/artifacts/model/decoder/weights.safetensors")
    weights.write_bytes(b"other weights")
    with pytest.raises(DataError, match=r"the files of \w+ version 1 differ from those registered"):
        registry.fetch(version, Folder(str(tmp_path / "changed")))


def test_files_that_are_too_large_are_not_fetched(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(registry, model(tmp_path, "a"))
    monkeypatch.setitem(MAX_BYTES, "config.json", 10)
    with pytest.raises(DataError, match=r"got autoencoder/config.json of \d+ bytes, expected at most 10"):
        registry.fetch(version, Folder(str(tmp_path / "fetched")))
    assert not (tmp_path / "fetched").exists()


def test_a_foreign_champion_is_one_line(registry: Registry) -> None:
    run_id = run_in(registry)
    registry.client.create_registered_model(registry.model)
    source = f"{registry.client.get_run(run_id).info.artifact_uri}/model"
    registry.client.create_model_version(registry.model, source, run_id)
    registry.client.set_registered_model_alias(registry.model, "champion", "1")
    with pytest.raises(ConfigError, match=r"version 1 of \w+ was not registered by hfd \(no tag hfd.digest\)"):
        registry.champion()


def test_a_registry_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    expected = r"^tracking.uri: got http://\S+, expected its model registry to answer .*: finished work is kept$"
    with pytest.raises(HfdError, match=expected):
        open_registry(tiny_config(tmp_path, tmp_path, f"tracking.uri={gone}", "promote.model=x", ENOUGH))
    with pytest.raises(HfdError, match=expected):
        Registry(open_client(gone), gone, "x").champion()


def test_a_database_file_serves_too(tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path, tmp_path / "w", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", "promote.model=x", ENOUGH
    )
    registry = open_registry(config)
    made = model(tmp_path, "a")
    registry.client.create_experiment("hfd", artifact_location=(tmp_path / "artifacts").as_uri())
    version = register(registry, made)
    registry.make_champion(version, None)
    champion = registry.champion()
    assert champion is not None and replace(champion, tags={}) == replace(version, tags={})
    registry.fetch(champion, Folder(str(tmp_path / "fetched")))


def test_a_registry_without_tracking_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^promote.model: got x with tracking.uri=null, expected the MLflow server"):
        tiny_config(tmp_path, tmp_path, "promote.model=x")


def test_too_few_draws_for_an_interval_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^evaluate.bootstrap_draws: got 19, expected 20 or more with promote.model"):
        tiny_config(tmp_path, tmp_path, "promote.model=x", "tracking.uri=auto", "evaluate.bootstrap_draws=19")


def dangle(server: Server, registry: Registry, version: int = 9) -> None:
    """Delete the champion's version and keep its alias, as servers of MLflow before 2026-08 do."""
    with contextlib.closing(sqlite3.connect(server.folder / "server.db")) as database, database:
        database.execute(
            "update registered_model_aliases set version = ? where name = ? and alias = 'champion'",
            (version, registry.model),
        )


def test_an_alias_of_a_deleted_version_is_no_champion(registry: Registry, server: Server, tmp_path: Path) -> None:
    first = register(registry, model(tmp_path, "a"))
    registry.make_champion(first, None)
    dangle(server, registry)
    assert registry.champion() is None and registry.deleted_champion() == 9
    with pytest.raises(ConfigError, match=r"has no champion, expected one\. Give --to VERSION"):
        registry.rollback(None)
    with pytest.raises(
        ConfigError, match=rf"@champion points to version 9, which was deleted\. {registry.model} has the"
    ):
        find_artifacts(server.uri, f"models:/{registry.model}@champion")
    assert registry.rollback(1) == f"{registry.model}: version 1 is champion, was version 9, which was deleted"
    dangle(server, registry)
    second = register(registry, model(tmp_path, "b"))
    registry.make_champion(second, None)
    assert alias(registry, "champion") == second.number


def test_a_deleted_champion_is_reported_and_the_one_before_it_comes_back(
    registry: Registry, server: Server, tmp_path: Path, hfd: Hfd
) -> None:
    three(registry, tmp_path)
    assert registry.deleted_champion() is None
    registry.client.delete_model_version(registry.model, "3")
    assert registry.champion() is None and registry.deleted_champion() == 3
    assert registry.describe_deleted(3) == (
        f"promote.model: version 3, the champion of {registry.model}, was deleted: there is none. hfd rollback makes "
        "version 2 champion again; until then, a promotion compares with nothing"
    )
    settings = tiny_overrides(
        tmp_path, tmp_path, f"tracking.uri={server.uri}", f"promote.model={registry.model}", ENOUGH
    )
    ended = hfd("rollback", "-c", "demo", *settings)
    assert ended.out == f"{registry.model}: version 2 is champion, was version 3, which was deleted\n"
    assert registry.deleted_champion() is None
    # Without the one before it, a new champion is needed, which then has none before it.
    for number in ("2", "1"):
        registry.client.delete_model_version(registry.model, number)
    assert registry.describe_deleted(2).endswith("there is none. A promotion now compares with nothing")
    last = register(registry, model(tmp_path, "d"))
    registry.make_champion(last, None)
    assert alias(registry, "champion") == last.number and registry.deleted_champion() is None
    with pytest.raises(ConfigError, match=r"version 4 of \w+ was the first champion, expected one before it"):
        registry.rollback(None)


def test_a_new_champion_after_a_deleted_one_can_be_rolled_back(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    registry.client.delete_model_version(registry.model, "3")
    registry.make_champion(register(registry, model(tmp_path, "d")), None)
    assert registry.rollback(None) == f"{registry.model}: version 2 is champion, was version 4. Undo with --to 4"


def test_a_predecessor_that_was_deleted_is_named(registry: Registry, tmp_path: Path) -> None:
    three(registry, tmp_path)
    registry.client.delete_model_version(registry.model, "2")
    with pytest.raises(ConfigError, match=r"^hfd.previous: got 2, expected a version of \w+ \(1, 3\)\. It was deleted"):
        registry.rollback(None)
    assert registry.rollback(1).startswith(f"{registry.model}: version 1 is champion")


def test_a_version_deleted_meanwhile_is_no_outage(registry: Registry, tmp_path: Path) -> None:
    version = register(registry, model(tmp_path, "a"))
    registry.client.delete_model_version(registry.model, "1")
    for use in (
        lambda: registry.fetch(version, Folder(str(tmp_path / "f"))),
        lambda: registry.make_champion(version, None),
    ):
        with pytest.raises(ConfigError, match=r"^promote.model: got \w+, expected .* It was deleted: run the same"):
            use()


def test_of_two_first_champions_at_the_same_moment_the_slower_is_refused(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow inserts an alias without a lock: the slower gets the error of the database's unique key."""
    from mlflow.exceptions import MlflowException

    ours, theirs = (register(registry, model(tmp_path, name)) for name in "ab")
    set_alias = registry.client.set_registered_model_alias

    def late(*_: str) -> None:
        monkeypatch.undo()
        set_alias(registry.model, "champion", str(theirs.number))
        raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.name")

    monkeypatch.setattr(registry.client, "set_registered_model_alias", late)
    with pytest.raises(HfdError, match=r"the champion of \w+ became version 2 meanwhile\. Run the same command again"):
        registry.make_champion(ours, None)
    assert alias(registry, "champion") == theirs.number


@pytest.mark.parametrize("names", ["abc", "def"])
def test_champions_made_at_once_end_with_one_and_no_outage(registry: Registry, tmp_path: Path, names: str) -> None:
    """The first three find no champion; the others find one of those, in the same registered model."""
    made = [register(registry, model(tmp_path, name)) for name in names]
    before = registry.champion()
    assert (before is None) == (names == "abc")

    def make_champion(version: Version) -> str:
        try:
            registry.make_champion(version, before)
        except HfdError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(3) as pool:
        ends = dict(zip([version.number for version in made], pool.map(make_champion, made), strict=True))
    champion = alias(registry, "champion")
    assert champion in ends and ends[champion] == ""
    assert all(not end or "meanwhile. Run the same command again" in end for end in ends.values())
