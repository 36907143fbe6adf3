"""The library's command line. ``pipelines.cli`` adds its commands to the same app."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from hfd import __version__
from hfd.cli.compress import compress
from hfd.cli.decompress import decompress
from hfd.cli.exit_codes import run_app
from hfd.cli.export import export
from hfd.cli.info import info


def create_app(help: str) -> typer.Typer:
    """Create the app with the codec's commands, ``--version`` and shell completion. The import is light."""
    app = typer.Typer(
        name="hfd",
        help=help,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command in (compress, decompress, info, export):
        app.command()(command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hfd {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


app = create_app("High-Fidelity Diffusion image compression: compress and decompress.")


def main() -> NoReturn:
    run_app(app)
