"""Plan a job on a cluster: one command, its upload, and a name by which a second attempt finds the job.

This module sends no requests to a cluster; :mod:`pipelines.jobs.client` does.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import hfd
from hfd.config import Config
from hfd.config.presets import load_config, preset_folder, read_preset
from hfd.errors import ConfigError
from hfd.io.model_folders import named_models
from pipelines.tracking.redaction import redact
from pipelines.tracking.settings import is_registered

MAX_UPLOAD_BYTES = 100 * 1024**2
"""Ray refuses larger packages, but only after sending them."""

ON_THE_CLUSTER = ("cluster.kind=attach", "cluster.address=auto")
"""Overrides that make a command use the Ray of its job. They come last and take precedence."""

CODE_ROOMS = ("hfd", "pipelines", "conf")
CODE_SUFFIXES = {".py", ".yaml", ".json", ".safetensors", ".html", ".css", ".js", ".typed"}
"""Suffixes of code and of shipped weights; other files of a checkout are not sent."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|token|credential|authorization|(^|_)(pass|pwd|auth|dsn)$|(api|access|private)_?key"
    r"|(^|_)key(_|$)",
    re.I,
)
_SECRET_VALUE = re.compile(
    r"(AKIA|ASIA)[0-9A-Z]{16}|-----BEGIN|\bgh[opsur]_\w{20}|github_pat_|\bxox[abprs]-|\bhf_\w{20}|\bsk-\w{16}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\."
)


@dataclass(frozen=True)
class ParsedCommand:
    """A parsed command line: ``retrain``, the preset of ``-c``, ``key=value`` settings, and other options."""

    command: str
    preset: str
    overrides: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True)
class UploadFile:
    """One file of the job's working directory: its ``path`` there, and the source of its bytes."""

    path: str
    source: Path | bytes

    @property
    def num_bytes(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    def read(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


@dataclass(frozen=True)
class Job:
    """The request to the job server. ``name`` is the submission id without the number at its end."""

    name: str
    command: str
    entrypoint: str
    env: Mapping[str, str]
    upload: tuple[UploadFile, ...]

    @property
    def upload_bytes(self) -> int:
        return sum(file.num_bytes for file in self.upload)


def read_command(group: Any, arguments: Sequence[str]) -> ParsedCommand:
    """Parse a command line with the parser that would run it here; ``group`` is that of the command line.

    Raises :class:`ConfigError` for a command that is not a step of the pipeline; the parser raises its own errors.
    """
    name, rest = arguments[0], list(arguments[1:])
    known = sorted(
        key for key, one in group.commands.items() if {"config", "overrides"} <= {p.name for p in one.params}
    )
    if name not in known:
        raise ConfigError(f"submit: got {name!r}, expected one of {', '.join(known)}. Other commands only run here")
    parser = group.commands[name]
    given = parser.make_context(name, rest).params
    options: list[str] = []
    for parameter in parser.params:
        value = given[parameter.name]
        if parameter.name in ("config", "overrides") or value in (None, parameter.default):
            continue
        options += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return ParsedCommand(name, given["config"], tuple(given["overrides"] or ()), tuple(options))


def plan_job(
    parsed: ParsedCommand,
    *,
    size: str | None = None,
    env: Sequence[str] = (),
    secrets: Sequence[str] = (),
    code: bool = False,
) -> Job:
    """Plan the job of a command, with all checks that are possible here.

    ``size`` names a cluster size in ``conf/cluster``; ``env`` holds ``NAME=VALUE``, ``secrets`` only names;
    with ``code`` this checkout's code is sent. Raises :class:`ConfigError` for settings that cannot work on a cluster.
    """
    variables, checks = dict(map(_variable, env)), _required(secrets)
    overrides = (*(size_overrides(size) if size else ()), *parsed.overrides, *ON_THE_CLUSTER)
    config = load_config(parsed.preset, overrides)
    _check_reachable(config)
    _check_no_secret(config)
    preset, upload = parsed.preset, []
    if preset.endswith((".yaml", ".yml")):
        tree = yaml.safe_dump(read_preset(preset), sort_keys=False, allow_unicode=True)
        preset = f"{Path(preset).stem}.yaml"
        upload.append(UploadFile(preset, tree.encode()))
    if code:
        upload += code_files(checkout_root(), list(_named_models(config).values()))
    arguments = [parsed.command, "-c", preset, *parsed.options, *overrides]
    name = f"hfd-{config.name}-{parsed.command}-{_digest(parsed, config)}"
    command = shlex.join(["hfd", *arguments])
    entrypoint = f"{checks}exec python -m {command}"
    job = Job(name, command, entrypoint, variables, tuple(upload))
    _check_size(job)
    return job


def size_overrides(size: str) -> tuple[str, ...]:
    """Return a cluster size as ``cluster.key=value``. Raises :class:`ConfigError` for an unknown one."""
    folder = preset_folder() / "cluster"
    path = folder / f"{size}.yaml"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if size not in known:
        raise ConfigError(f"--size: got {size!r}, expected one of {', '.join(known)}. They are in {folder}")
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(f"cluster.{key}={json.dumps(value)}" for key, value in tree["cluster"].items())


def checkout_root() -> Path:
    """Return the checkout that this code runs from. Raises :class:`ConfigError` if the package is installed."""
    root = Path(hfd.__file__).resolve().parent.parent
    if not (root / "pyproject.toml").is_file() or not (root / "conf").is_dir():
        raise ConfigError(f"--code: got an installed package in {root}, expected a checkout. Leave out --code")
    return root


def is_checkout() -> bool:
    """Return True if ``hfd`` runs from a checkout, whose code may differ from the cluster's."""
    try:
        checkout_root()
    except ConfigError:
        return False
    return True


def code_files(root: Path, models: Sequence[str]) -> list[UploadFile]:
    """Return the code of a checkout, with the shipped weights of ``models`` only."""
    found = []
    for room in CODE_ROOMS:
        for path in sorted((root / room).rglob("*")):
            parts = path.relative_to(root).parts
            unused = parts[:2] == ("hfd", "pretrained") and not set(parts[2:4]) & set(models)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
            if path.suffix in CODE_SUFFIXES and not unused and not hidden and path.is_file() and not path.is_symlink():
                found.append(UploadFile("/".join(parts), path))
    return found


def _digest(parsed: ParsedCommand, config: Config) -> str:
    """Digest a job without its cluster, since two cluster sizes must not train the same workspace at once."""
    settings = config.model_dump(mode="json", exclude={"cluster"})
    text = json.dumps([parsed.command, parsed.options, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _required(secrets: Sequence[str]) -> str:
    """Return shell code that exits with one line and code 2 if the cluster's environment lacks one of ``secrets``."""
    lines = []
    for name in secrets:
        if _ENV_NAME.fullmatch(name) is None:
            raise ConfigError("--secret: got an invalid name, expected only a variable's name. Do not give its value")
        complaint = f"hfd: {name}: not set in the cluster's environment, expected a value. Set it there, submit again"
        lines.append(f'[ -n "${{{name}:-}}" ] || {{ echo {shlex.quote(complaint)} >&2; exit 2; }}; ')
    return "".join(lines)


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or _ENV_NAME.fullmatch(name) is None:
        got = "a value without a name" if separator else repr(name)
        raise ConfigError(f"--env: got {got}, expected NAME=VALUE")
    if _SECRET_NAME.search(name) or looks_secret(value):
        raise ConfigError(
            f"--env {name}: got what looks like a secret, expected none: all users of the cluster can read a  "
            f"job's variables. Set it in the cluster's own environment, and give --secret {name}"
        )
    return name, value


def looks_secret(value: str) -> bool:
    """Return True for a text with a password, a signature, or a key of a well-known form."""
    return redact(value) != value or _SECRET_VALUE.search(value) is not None


def _check_no_secret(config: Config) -> None:
    for key, value in _texts(config.model_dump(mode="json")):
        if looks_secret(value):
            raise ConfigError(
                f"{key}: got a password or key in it, expected none: all users of the cluster can read a  "
                "job's command. Set it in the cluster's own environment"
            )


def _texts(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value, key)


_PLACES_OF_EVALUATION = ("data", "curves", "vgg16", "inception", "dinov2", "clip")
"""Settings of the evaluation that name a place; those of systems decoded elsewhere come beside them."""


def _check_reachable(config: Config) -> None:
    """Refuse a relative path, which is another folder on the cluster and is deleted when the job ends."""
    evaluate = config.evaluate
    where = {"workspace": config.workspace_uri, **config.data.uris}
    where |= {f"evaluate.{name}": getattr(evaluate, name) for name in _PLACES_OF_EVALUATION}
    for number, decoded in enumerate(evaluate.decoded):
        where |= {f"evaluate.decoded.{number}.{name}": getattr(decoded, name) for name in ("uri", "bytes")}
    models = _named_models(config)
    for key, value in {**where, **models}.items():
        known = key in models and value is not None and (value in named_models() or is_registered(value))
        if value is not None and not known and not value.startswith(("/", "builtin:")) and "://" not in value:
            raise ConfigError(
                f"{key}: got {value}, expected an s3:// prefix, or an absolute path that every node of the cluster "
                f"sees. Give {key}=s3://..."
            )
    if config.tracking.uri == "auto" and "://" in config.workspace_uri:
        raise ConfigError(
            f"tracking.uri: got auto with the remote workspace {config.workspace_uri}, expected the URI of an MLflow "
            "server. Or turn tracking off with tracking.uri=null"
        )


def _named_models(config: Config) -> dict[str, str]:
    """Return the models that a run starts or learns from, by the key that names them."""
    decoder = config.decoder
    named = {
        "autoencoder.warm_start": config.autoencoder.warm_start,
        "decoder.warm_start": decoder.warm_start,
        "decoder.adversarial.warm_start": None if decoder.adversarial is None else decoder.adversarial.warm_start,
        "decoder.distill.teacher": None if decoder.distill is None else decoder.distill.teacher,
        "decoder.blend.model": None if decoder.blend is None else decoder.blend.model,
    }
    return {key: model for key, model in named.items() if model is not None}


def _check_size(job: Job) -> None:
    if job.upload_bytes >= MAX_UPLOAD_BYTES:
        largest = max(job.upload, key=lambda sent: sent.num_bytes)
        raise ConfigError(
            f"upload: got {job.upload_bytes / 1024**2:.1f} MiB in {len(job.upload)} files, expected less than "
            f"{MAX_UPLOAD_BYTES / 1024**2:.0f} MiB (Ray's limit); the largest is {largest.path} with "
            f"{largest.num_bytes / 1024**2:.1f} MiB. Put weights into the image or under s3://"
        )
