"""Folders as users name them: two names are one folder only where every reader agrees; everything else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hfd.config.presets import load_config
from hfd.errors import ConfigError, DataError
from hfd.io.storage import Folder
from hfd.io.uris import parse_s3
from pipelines.corpus.listing import list_corpus
from pipelines.runs.compare_and_swap import open_cas_object
from pipelines.tracking.settings import database_file, tracking_settings
from tests.support.s3_server import put

REFUSED = [
    "s3://b/w#1",
    "s3://b/w#",
    "s3://b#/w",
    "s3://b/w?x",
    "s3://b/w?",
    "s3://b/w?region=",
    "s3://b/w?colour=red",
    "s3://b//w",
    "s3://b/w//",
    "s3://b/a//w",
    "s3://b/a%2F%2Fw",
    "s3://b/../w",
    "s3://b/a/..",
    "s3://b/./w",
    "s3://b/%2e%2e/w",
    "s3://b/w\n1",
    "s3://b/w\t",
    "s3://b/w%0A",
    "s3://b/w%ff",
    "s3://b/caf\udce9",
    "s3://host:9000/b/w",
    "s3://key:secret@b/w",
    "s3:///w",
    "s3:/b/w",
    "S3://b/w",
    "s3a://b/w",
    "file:relative",
    "file://host/w",
    "file:///w#1",
    "file:///w?1",
    "",
    " ",
    "a\0b",
    "~no-such-user-here/w",
]
SETTINGS = ["workspace", "data.uri", "evaluate.data", "autoencoder.warm_start", "decoder.warm_start"]


def configured(setting: str, value: str) -> Any:
    found: Any = load_config("demo", ["data.uri=p", f"{setting}={yaml.safe_dump(value)}"])
    for part in setting.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("uri", REFUSED)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_refuses_characters_that_a_reader_would_drop(setting: str, uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(setting, uri)
    message = str(caught.value)
    assert message.startswith(f"{setting}: ") and len(message.splitlines()) == 1
    assert "secret" not in message and message.isprintable()


@pytest.mark.parametrize("uri", [uri for uri in REFUSED if "3:" in uri[:3].lower() or uri.startswith("file")])
def test_a_folder_refuses_the_same(uri: str) -> None:
    with pytest.raises(DataError, match=r"unusable URI|in a file: URI|absolute path"):
        Folder(uri).exists("x")
    if not uri.startswith("file"):
        with pytest.raises(ConfigError, match="unusable URI"):
            open_cas_object(Folder(uri), "lease")
        with pytest.raises(ConfigError, match=r"^data\.uri: .*unusable URI") as caught:
            list_corpus(uri, setting="data.uri")
        assert "secret" not in str(caught.value)


def test_the_message_advises_the_spelling_of_the_name() -> None:
    for uri, advice in (("s3://b/w#1", "%23"), ("s3://b/w?x", "%3F"), ("s3://b//w", "slash"), ("s3://b/..", "..")):
        with pytest.raises(ConfigError) as caught:
            parse_s3(uri)
        assert uri in str(caught.value) and advice in str(caught.value)


def test_a_query_is_for_reading_alone() -> None:
    uri = "s3://b/p?endpoint_override=localhost:9000&scheme=http"
    assert configured("data.uri", uri) == uri
    assert (Folder(uri) / "x").uri == "s3://b/p/x?endpoint_override=localhost:9000&scheme=http"
    with pytest.raises(ConfigError, match=r"^workspace: .*AWS_ENDPOINT_URL"):
        configured("workspace", uri)


@pytest.mark.parametrize(("name", "key"), [("w%231", "w#1"), ("w%3Fx", "w?x"), ("100%", "100%"), ("a%2525", "a%25")])
def test_escapes_are_one_object_to_every_reader(s3: Folder, s3_client: Any, name: str, key: str) -> None:
    put(s3_client, s3.uri, f"{key}/a.jpg", b"one")
    put(s3_client, s3.uri, f"{key[:1]}/a.jpg", b"another")
    folder = s3 / name
    assert folder.read("a.jpg") == b"one" and [entry.key for entry in folder.files()] == ["a.jpg"]
    (photo,) = list_corpus(folder.uri, setting="data.uri").photos
    assert photo.read() == b"one"
    open_cas_object(folder, "lease").swap(b"held", None)
    assert folder.read("lease").startswith(b"held")


@pytest.mark.parametrize("name", ["w#1", "w?x", "100%", "a%23b", "Trip: Rome", "photos:2024", "a b", "-x", "..."])
def test_any_name_of_a_local_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in (name, str(tmp_path / name), (tmp_path / name).as_uri()):
        assert Folder(uri).is_local and Folder(uri).path == tmp_path / name
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.png").write_bytes(b"x")
    assert configured("data.uri", name) == name
    assert len(list_corpus(name, setting="data.uri").photos) == 1


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_leading_tilde_is_the_home_folder(setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert configured(setting, "~/w") == f"{tmp_path}/w"
    assert configured(setting, "~") == str(tmp_path)
    for kept in ("a/~/w", "./~", "w~", "~backup"):
        assert configured(setting, kept) == kept


def test_a_tilde_in_a_file_of_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mine = "extends: demo\nworkspace: ~/w/{name}\ndata: {uri: ~/p}\ntracking: {uri: 'sqlite:///~/m.db'}\n"
    (tmp_path / "mine.yaml").write_text(mine)
    config = load_config(str(tmp_path / "mine.yaml"))
    assert config.workspace_uri == f"{tmp_path}/w/{config.name}"
    assert config.data.uri == f"{tmp_path}/p"
    assert config.tracking.uri == f"sqlite:///{tmp_path}/m.db"


@pytest.mark.parametrize("name", ["w#1", "w?x", "100%", "a%23b"])
def test_the_tracking_database_is_in_the_workspace_of_any_name(tmp_path: Path, name: str) -> None:
    from sqlalchemy.engine import make_url

    uri = tracking_settings(load_config("demo", ["data.uri=p", f"workspace='{tmp_path}/{name}'"])).uri
    assert uri is not None
    assert make_url(uri).database == str(tmp_path / name / "mlflow.db") == str(database_file(uri))
