"""Errors as users get them."""

from __future__ import annotations

from typing import Any

import pytest


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    """Return the message, which must be one line."""
    message = str(error.value)
    assert "\n" not in message
    return message
