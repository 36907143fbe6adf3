"""The image's recipe, read as a linter would: pinned, small, without secrets, without root."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT

DOCKERFILE = (ROOT / "infra" / "Dockerfile").read_text("utf-8")
IGNORED = (ROOT / "infra" / "Dockerfile.dockerignore").read_text("utf-8")
SECRET = re.compile(r"secret|password|passwd|token|credential|api_?key|access_?key", re.I)


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and its argument, continuation lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def complaints(text: str) -> list[str]:
    """Return the faults of a Dockerfile, one word each."""
    found = []
    steps = instructions(text)
    defaults = dict(rest.split("=", 1) for word, rest in steps if word == "ARG" and "=" in rest)
    for word, rest in steps:
        if word == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], ""), rest.split()[0])
            if not re.search(r":\d+\.\d+\.\d+", image):
                found.append("unpinned")
        if word in ("ARG", "ENV") and SECRET.search(rest):
            found.append("secret")
        if word == "ADD":
            found.append("add")
        if word == "COPY" and (set(rest.split()[:-1]) & {".", "./", "*", ".."} or "--chown=root" in rest):
            found.append("copies-everything")
        if word == "RUN" and "apt-get install" in rest:
            if "--no-install-recommends" not in rest or "rm -rf /var/lib/apt/lists" not in rest:
                found.append("apt-leftovers")
            if not rest.startswith("apt-get update &&"):
                found.append("apt-update-apart")
        if word == "RUN" and "pip install" in rest and not {"--no-cache-dir", "--constraint"} <= set(rest.split()):
            found.append("pip")
        if word == "RUN" and re.search(r"(curl|wget)[^|]*\|\s*(ba|z|da)?sh", rest):
            found.append("pipe-to-shell")
        if word == "RUN" and "sudo" in rest.split():
            found.append("sudo")
        if word == "WORKDIR" and not rest.startswith("/"):
            found.append("relative-workdir")
        if word in ("CMD", "ENTRYPOINT") and not rest.startswith("["):
            found.append("shell-form")
    users = [rest for word, rest in steps if word == "USER"]
    if not users or users[-1].split(":")[0] in ("root", "0"):
        found.append("root")
    return found


def test_the_image_is_made_as_it_should_be() -> None:
    assert complaints(DOCKERFILE) == []
    words = [word for word, _ in instructions(DOCKERFILE)]
    assert words[:2] == ["ARG", "FROM"]
    assert words.count("FROM") == words.count("USER") == words.count("CMD") == 1
    assert words.index("USER") > max(at for at, word in enumerate(words) if word == "RUN")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("ARG PYTHON_VERSION=3.11.13\n", "ARG PYTHON_VERSION=3\n"), "unpinned"),
        (("USER 1000:100\n", ""), "root"),
        (("USER 1000:100\n", "USER root\n"), "root"),
        (("ARG DEVICE=cuda\n", "ARG DEVICE=cuda\nARG AWS_SECRET_ACCESS_KEY\n"), "secret"),
        (("COPY conf conf\n", "COPY . .\n"), "copies-everything"),
        (("COPY conf conf\n", "ADD https://example.com/x.tar /x\n"), "add"),
        ((" --no-install-recommends", ""), "apt-leftovers"),
        (("RUN apt-get update \\\n && ", "RUN "), "apt-update-apart"),
        (("--no-cache-dir ", ""), "pip"),
        (('CMD ["hfd", "--help"]', "CMD hfd --help"), "shell-form"),
        (("USER 1000:100\n", "RUN wget -qO- https://example.com/x | sh\nUSER 1000:100\n"), "pipe-to-shell"),
    ],
)
def test_a_mistake_in_the_recipe_would_be_seen(change: tuple[str, str], complaint: str) -> None:
    assert change[0] in DOCKERFILE
    assert complaint in complaints(DOCKERFILE.replace(*change))


def test_copied_files_exist_and_only_they_reach_the_builder() -> None:
    copied = [source for word, rest in instructions(DOCKERFILE) if word == "COPY" for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    rules = [line for line in IGNORED.splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == set(copied)
    # the package's metadata names these, and its build fails without them
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "hfd", "pipelines", "conf"} == set(copied)
