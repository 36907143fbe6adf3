"""README and docs: short enough, up to date, and without commands, settings or names that do not exist."""

from __future__ import annotations

import itertools
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

import hfd as package
from hfd.config.presets import all_keys
from pipelines.cli import app
from tests.support.command_line import Hfd
from tests.support.paths import ROOT

README = ROOT / "README.md"
GENERATED = ("command_line", "settings", "presets")
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks/README.md"]
    if page.name != "CHANGELOG.md"
)
GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands  # type: ignore[attr-defined]
FOLDERS = "hfd|pipelines|conf|infra|docs|tests|benchmarks|findings"
KEYS = set(all_keys())
SECTIONS = {key.rpartition(".")[0] for key in KEYS} | {"decoder.adversarial", "decoder.finish"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"].keys()

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def shell_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in the shell blocks of a page: pipes separate commands, redirections are cut."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for command in " ".join(map(shlex.quote, words)).split("'|'"):
                kept = list(itertools.takewhile(lambda word: word not in "<>", shlex.split(command)))
                if kept:
                    yield kept


def code_of(text: str) -> list[str]:
    """Return the text of each code span outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


LISTS = {"data.sources", "evaluate.samplers", "evaluate.external", "evaluate.decoded"}
"""Lists of sections, whose keys the settings page describes."""


def unknown_keys(spans: list[str]) -> list[str]:
    """Return the dotted names that look like settings and do not exist."""
    roots = {section.split(".")[0] for section in SECTIONS}
    names = {span.partition("=")[0].rstrip("*.") for span in spans if re.fullmatch(r"[a-z]+\.[\w.*\[\]]+(=.*)?", span)}
    files = (".py", ".yaml", ".md", ".json", ".parquet", ".html", ".txt")
    settings = {name.replace("[]", "") for name in names if name.split(".")[0] in roots and not name.endswith(files)}
    known = KEYS | SECTIONS | {name for name in settings if name.rpartition(".")[0] in LISTS}
    return sorted(name for name in settings - known if name not in roots)


def missing_name(dotted: str) -> bool:
    """Report whether a dotted name of the product is neither a module nor a name in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:end])
        source = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if source.is_file():
            text = source.read_text(encoding="utf-8")
            return any(re.search(rf"\b{part}\b", text) is None for part in parts[end:])
    return True


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("name", GENERATED)
def test_generated_page_is_up_to_date(name: str) -> None:
    made = runpy.run_path(str(ROOT / "docs/generate" / f"{name}.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), f"stale: run python docs/generate/{name}.py"


def test_diagrams_are_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs/generate/diagrams.py"))
    for name, svg in (("rooms", made["rooms_svg"]()), ("steps", made["steps_svg"](made["read_steps"]()))):
        shown = (made["FOLDER"] / f"{name}.svg").read_text(encoding="utf-8")
        assert shown == svg, "stale: run python docs/generate/diagrams.py"


def test_settings_page_has_every_key() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    described = {key.replace("[]", "") for key in re.findall(r"^\| `([\w.\[\]]+)` \|", text, re.M)}
    trainings = {key for key in KEYS if re.match(r"decoder\.(adversarial\.)?train\.", key)}  # as autoencoder.train
    assert KEYS - trainings - described == set()


@each_page
def test_commands_of_a_page_are_valid(page: Path) -> None:
    for program, *words in shell_lines(page.read_text(encoding="utf-8")):
        if program == "make":
            assert all(f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8") for target in words)
        elif program == "hfd":
            COMMANDS[words[0]].make_context(words[0], words[1:])
            given = [] if words[0] == "report" else words  # whose words are LABEL=RUN
            keys = {word.partition("=")[0] for word in given if re.match(r"[a-z]+(\.\w+)*=", word)}
            assert keys <= KEYS | SECTIONS


@each_page
def test_options_and_settings_of_a_page_exist(page: Path) -> None:
    spans = code_of(page.read_text(encoding="utf-8"))
    known = {
        name
        for command in (GROUP, *COMMANDS.values())
        for param in command.params
        for name in (*param.opts, *param.secondary_opts)
    }
    ours = [span for span in spans if span.startswith(("hfd ", "-"))]
    options = {option for span in ours for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", span)}
    assert sorted(options - known - {"-h", "--help"}) == []
    assert unknown_keys(spans) == []


@each_page
def test_paths_and_names_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = set(
        re.findall(r"(?<![\w/.:-])(?:hfd|pipelines|conf|infra|docs|tests|benchmarks|findings)/[\w./-]*\w", text)
    )
    assert [path for path in sorted(paths) if "NAME" not in path and not (ROOT / path).exists()] == []
    names = set(re.findall(r"(?<![\w/.@-])(?:hfd|pipelines)(?:\.[A-Za-z_]\w*)+", text))
    assert [name for name in sorted(names) if not name.startswith("hfd.name") and missing_name(name)] == []


def test_a_wrong_name_would_be_seen() -> None:
    assert missing_name("hfd.codec.nothing_here") and missing_name("pipelines.zebra.x")
    assert not missing_name("hfd.geometry.plan.Scheme.FOUR_GROUPS") and not missing_name("hfd.compress")
    assert unknown_keys(["decoder.train.lrr=1", "decoder.train.lr", "evaluate.data", "prepare.py"]) == [
        "decoder.train.lrr"
    ]
    assert list(shell_lines("```sh\nhfd a \\\n  b | hfd c # d\n```")) == [["hfd", "a", "b"], ["hfd", "c"]]
    with pytest.raises(Exception, match="No such option"):
        COMMANDS["info"].make_context("info", ["--no-such-option"])


def test_commands_of_the_readme_work(hfd: Hfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec's commands and Python lines run; the training is planned; extras and targets exist."""
    monkeypatch.chdir(tmp_path)
    picture = Image.radial_gradient("L").convert("RGB").resize((160, 128))
    for name in ("photo.png", "photos/a.png", "PHOTOS/a.png", "PICTURES/b.png"):
        Path(name).parent.mkdir(exist_ok=True)
        picture.save(name)
    text = README.read_text(encoding="utf-8")
    ran = []
    for words in shell_lines(text):
        if words[0] == "hfd":
            ended = hfd(*words[1:], *["--dry-run"] * (words[1] == "retrain"))
            assert (ended.code, ended.err) == (0, ""), words
            ran.append(words[1])
        elif words[:2] == ["pip", "install"]:
            extras = re.findall(r"\.\[(\w+)\]", " ".join(words))
            assert set(extras) <= EXTRAS
        else:
            assert words[0] == "make" and f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
    assert {"compress", "decompress", "info", "retrain"} <= set(ran)
    (python,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len([line for line in python.splitlines() if line]) <= 5
    exec(python, {})
    assert Path("copy.hfd").is_file() and Path("decoded.png").is_file() and Path("small/a.hfd").is_file()


def test_extras_of_the_readme_are_those_of_the_package() -> None:
    table = re.findall(r"^\| `(\w+)` \|", README.read_text(encoding="utf-8"), re.M)
    assert sorted(table) == sorted(EXTRAS)


def test_every_benchmark_is_listed() -> None:
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert [name for name in sorted(scripts) if f"`{name}`" not in text] == []


def test_citation_and_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == package.__version__
    assert f"## [{package.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    loads = r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\s\">]+"
    assert [found for page in pages for found in re.findall(loads, page.read_text(encoding="utf-8"))] == []
