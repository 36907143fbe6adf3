"""``hfd info``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hfd.errors import BatchError, HfdError, printable

if TYPE_CHECKING:
    from hfd.cli.facts import Facts


def info(
    files: Annotated[list[str], typer.Argument(help=".hfd files, model folders or names, or workspaces.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Describe .hfd files, model folders or workspaces."""
    from hfd.cli.facts import facts_of, text_of

    found: list[tuple[str, Facts]] = []
    failed = 0
    for path in files:
        try:
            found += [(path, facts) for facts in facts_of(path)]
        except HfdError as error:
            if len(files) == 1:
                raise
            failed += 1
            print(f"hfd: {printable(str(error))}", file=sys.stderr)
    if as_json:
        print(json.dumps([facts for _, facts in found], indent=2))
    elif len(found) == 1 and len(files) == 1:
        print(printable(text_of(found[0][1]), keep="\n"))
    else:
        print("\n\n".join(f"{printable(path)}\n{printable(text_of(facts), keep=chr(10))}" for path, facts in found))
    if failed:
        raise BatchError(f"{failed} of {len(files)} failed")
