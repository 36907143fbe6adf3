"""Python processes that behave as if some packages were not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_HOOK = """
import sys, importlib.abc

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run_without(packages: Sequence[str], code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python ``code``, with ``arguments`` in ``sys.argv[1:]``, where importing any of ``packages`` fails."""
    script = f"NAMES = {sorted(packages)!r}\n{_HOOK}\n{code}"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def hfd_without(packages: Sequence[str], *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line where importing any of ``packages`` fails."""
    code = "import sys; sys.argv[0] = 'hfd'\nfrom pipelines.cli import main\nmain()"
    return run_without(packages, code, *map(str, arguments), cwd=cwd)
