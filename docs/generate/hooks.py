"""Hook of mkdocs.yml: show the cross-references of docstrings as plain code."""

from __future__ import annotations

import re


def on_page_content(html: str, **_: object) -> str:
    """Drop the role of references such as ``:mod:`hfd.codec```, which mkdocstrings does not read."""
    return re.sub(r":(?:mod|class|func|meth|attr|data):(?=<code>)", "", html)
