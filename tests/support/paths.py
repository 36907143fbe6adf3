"""Folders of the checkout, and beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
SHARED = ROOT.parent / "shared"
"""Photographs and schemas that are too large for the repository; tests that need them skip where it is absent."""
