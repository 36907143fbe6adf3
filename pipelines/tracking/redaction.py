"""Prepare settings and messages for recording: flat, on one line, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_MAX_ERROR_CHARS = 2000
_USERINFO = re.compile(r"([a-zA-Z][\w+.-]*://)[^/\s@]+@")
SECRET_QUERY = re.compile(r"([?&][\w-]*(?:password|token|secret|signature|credential|key)[\w-]*=)[^&\s]+", re.I)
_SECRET_KEY = re.compile(r"(^|[_.-])(password|passwd|secret|token|api_?key|access_?key(_id)?|credentials?)$", re.I)


def redact(text: str) -> str:
    """Replace user names, passwords and signatures of the URLs in ``text`` by ``***``."""
    return SECRET_QUERY.sub(r"\1***", _USERINFO.sub(r"\1***@", text))


def flatten(params: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Flatten nested mappings to ``{"dotted.key": text}``; secrets become ``***``, lists become JSON."""
    flat: dict[str, str] = {}
    for key, value in plain(params).items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value)
    return flat


def plain(value: Any, key: str = "") -> Any:
    """Convert ``value`` to YAML's own types, without secrets."""
    if isinstance(value, Mapping):
        return {str(name): plain(item, str(name)) for name, item in value.items()}
    if value is not None and _SECRET_KEY.search(key):
        return "***"
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or type(value) in (bool, int, float):
        return value
    return redact(str(value))


def tag_texts(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: "***" if _SECRET_KEY.search(key) else redact(str(value)) for key, value in tags.items()}


def one_line(error: BaseException) -> str:
    """Return the type and message of ``error`` on one line, without secrets; a very long one is cut, with a mark."""
    text = redact(" ".join(f"{type(error).__name__}: {error}".split()))
    return text if len(text) <= _MAX_ERROR_CHARS else text[:_MAX_ERROR_CHARS] + "…"
