"""Presets: YAML with ``extends:``, ``key=value`` overrides, and errors that list all mistakes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hfd.config import Config
from hfd.config.base import PLACE
from hfd.errors import ConfigError


def preset_folder() -> Path:
    """Folder of the presets: in an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def preset_names() -> list[str]:
    return sorted(path.stem for path in preset_folder().glob("*.yaml"))


def load_config(preset: str, overrides: Sequence[str] = ()) -> Config:
    """Load a preset, a name from ``conf/`` or a path to a YAML file, with overrides ``dotted.key=value`` in YAML.

    Raises :class:`ConfigError` that names every mistake, one per line.
    """
    tree = read_preset(preset)
    unreadable = [line for override in overrides if (line := _override(tree, override)) is not None]
    if unreadable:
        raise ConfigError("\n".join(unreadable))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def read_preset(preset: str) -> dict[str, Any]:
    """Read a preset's files, following ``extends``, without checks of values. Raises :class:`ConfigError`."""
    return _read_preset(preset, chain=())


def _override(tree: dict[str, Any], override: str) -> str | None:
    """Apply one override; return an error message or None."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        return f"override: got {override!r}, expected key=value. Example: autoencoder.lmbda=0.002"
    try:
        value = _read_yaml(text) if text else None
    except yaml.YAMLError as error:
        return f"{key}: got {text!r}, expected a YAML value ({error.__class__.__name__}). Quote it"
    _assign(tree, key.strip().split("."), value)
    return None


def _read_preset(preset: str, chain: tuple[str, ...]) -> dict[str, Any]:
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else preset_folder() / f"{preset}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(preset, preset_names(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"preset: got {preset!r}, expected one of {', '.join(preset_names())} or a .yaml file.{hint}")
    path = path.resolve()  # one spelling, so that a cycle through ../ is seen
    if str(path) in chain:
        raise ConfigError(f"{path}: extends itself ({' -> '.join([*chain, str(path)])}). Remove one extends.")
    try:
        tree = _read_yaml(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: got a {type(tree).__name__}, expected a mapping of settings")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if isinstance(parent, str) and parent.endswith((".yaml", ".yml")) and not Path(parent).is_absolute():
        parent = str(path.parent / parent)
    return _merge(_read_preset(str(parent), (*chain, str(path))), tree)


def _read_yaml(text: str) -> Any:
    """Parse by libyaml where PyYAML was built with it: ten times faster. Both loaders make plain values only."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _merge(base: dict[str, Any], over: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Merge section by section. A section of another kind replaces the one below it, whose keys it may not have."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict) and not _is_other_kind(prefix + key, below, value):
            merged[key] = _merge(below, value, f"{prefix}{key}.")
        else:
            merged[key] = value
    return merged


def _is_other_kind(key: str, base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return over.get("kind", base.get("kind")) != base.get("kind") and len(_sections_at(key)) > 1


def _assign(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        child = tree.get(part)
        if not isinstance(child, dict):
            child = tree[part] = {}
        tree = child
    tree[path[-1]] = value


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    """Sections that a field may hold: none for a plain value, several for a tagged union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is tuple:
        return []  # a list of sections has no dotted keys
    return [section for argument in get_args(annotation) for section in _sections_of(argument)]


def all_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """All dotted keys of a preset, with those of all kinds of a tagged union."""
    for name, field in model.model_fields.items():
        sections = _sections_of(field.annotation)
        if not sections:
            yield prefix + name
        else:
            keys = (key for section in sections for key in all_keys(section, f"{prefix}{name}."))
            yield from dict.fromkeys(keys)


def _section_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        sections = _sections_of(field.annotation)
        if sections:
            yield prefix + name
        for section in sections:
            yield from _section_keys(section, f"{prefix}{name}.")


def _without_tags(loc: Sequence[int | str]) -> list[str]:
    """The key of an error, without the kinds that pydantic puts between a tagged union and its keys."""
    key: list[str] = []
    models: list[type[BaseModel]] = [Config]
    for part in loc:
        kinds = {model.model_fields["kind"].default: model for model in models if "kind" in model.model_fields}
        if len(models) > 1 and part in kinds:
            models = [kinds[part]]
            continue
        key.append(str(part))
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        models = [section for field in fields for section in _sections_of(field.annotation)]
    return key


def _nearest_key(key: str) -> str | None:
    keys = list(all_keys())
    section, _, leaf = key.rpartition(".")
    if _is_section(section):  # a shared prefix would make any two keys of a section similar
        near = difflib.get_close_matches(leaf, _names_in(section), n=1, cutoff=0.6)
        near = [f"{section}.{name}" for name in near]
    else:
        near = difflib.get_close_matches(key, [*keys, *_section_keys()], n=1, cutoff=0.6)
    if near:
        return near[0]
    by_leaf = {known.rpartition(".")[2]: known for known in reversed(keys)}
    near = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.7)
    return by_leaf[near[0]] if near else None


def _is_section(key: str) -> bool:
    return key in set(_section_keys())


def _names_in(section: str) -> list[str]:
    """Names of the keys and sections directly in a section; "" is the whole preset."""
    prefix = f"{section}." if section else ""
    return sorted({key.removeprefix(prefix).split(".")[0] for key in all_keys() if key.startswith(prefix)})


def _siblings_of(key: str) -> str:
    """List the keys of the innermost existing section around an unknown key."""
    parents = (key.rsplit(".", depth)[0] for depth in range(1, key.count(".") + 1))
    section = next(filter(_is_section, parents), "")
    return f"one of {', '.join(f'{section}.{name}'.lstrip('.') for name in _names_in(section))}"


_EXPECTED = {
    "model_type": "a section of settings",
    "tuple_type": "a list such as [1, 2]",
    "too_short": "a list of {min_length} or more",
    "string_type": "a text; quote it",
    "string_pattern_mismatch": "letters, digits and . _ -, beginning with a letter or digit",
}
"""Expected values by pydantic's types of errors, where its messages use Python terms."""


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(_without_tags(detail["loc"]))
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        context = detail.get("ctx", {})
        got = f"got {context['tag']!r}" if "tag" in context else "missing"
        known = context.get("expected_tags") or ", ".join(f"'{kind}'" for kind in _kinds_at(key))
        return f"{key}.kind: {got}, expected one of {known}."
    if detail["type"] == "extra_forbidden" and (items := _items_around(key)):
        return _unknown_in_list(key, items)
    if detail["type"] == "extra_forbidden":
        near = _nearest_key(key)
        return f"{key}: unknown key. " + (f"Did you mean {near}?" if near else f"Remove it, or use {_siblings_of(key)}")
    if detail["type"] == "missing":
        return f"{key}: missing, expected a value. Set it in the preset or as {key}=..."
    if detail["type"] == PLACE:
        return f"{key}: {detail['msg']}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if detail["type"] == "value_error" and not _is_leaf(key):
        return f"{key}.{message}" if key else message
    got = detail["input"]
    if detail["type"] in _EXPECTED:
        return f"{key}: got {got!r}, expected {_EXPECTED[detail['type']].format(**detail.get('ctx', {}))}."
    return f"{key}: got {got!r}, expected {_lower_first(message.removeprefix('expected '))}."


def _items_around(key: str) -> list[type[BaseModel]]:
    """Sections whose key this may be, where it is one in a list of sections, such as ``data.sources.0.share``."""
    *section, index, _ = key.split(".") if key.count(".") > 1 else ("", "", "")
    if not index.isdigit():
        return []
    fields = [model.model_fields.get(section[-1]) for model in _sections_at(".".join(section[:-1]))]
    held = [argument for field in fields if field is not None for argument in get_args(field.annotation)]
    return [section for argument in held for section in _sections_of(argument)]


def _unknown_in_list(key: str, items: Sequence[type[BaseModel]]) -> str:
    place, _, leaf = key.rpartition(".")
    names = list(dict.fromkeys(name for item in items for name in item.model_fields))
    near = difflib.get_close_matches(leaf, names, n=1, cutoff=0.6)
    return f"{key}: unknown key. " + (
        f"Did you mean {place}.{near[0]}?" if near else f"Remove it, or use one of {', '.join(names)}"
    )


def _kinds_at(key: str) -> list[str]:
    return [model.model_fields["kind"].default for model in _sections_at(key)]


def _sections_at(key: str) -> list[type[BaseModel]]:
    """Sections that a key may hold: several for a tagged union."""
    models: list[type[BaseModel]] = [Config]
    for part in key.split("."):
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [section for field in fields for section in _sections_of(field.annotation)]
    return models


def _is_leaf(key: str) -> bool:
    return key in set(all_keys())


def _lower_first(text: str) -> str:
    text = text.removeprefix("Input should be ")
    return text[:1].lower() + text[1:]
