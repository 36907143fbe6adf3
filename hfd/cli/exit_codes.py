"""Exit codes: 0 done, 1 some files of several failed, 2 a mistake (one line on standard error), 130 Ctrl-C."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from hfd.engine.openblas import choose_kernels
from hfd.errors import HfdError, printable

STOPPED = 130
"""Exit code after Ctrl-C, by the convention of shells: 128 + SIGINT."""


def run_app(app: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit. Errors of other types keep their traceback: they are bugs."""
    choose_kernels()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot encode must not fail
    try:
        # typer returns the exit code of cases that it handles itself: 0 after --help, 130 after Ctrl-C
        code = app(None if arguments is None else list(arguments), prog_name="hfd", standalone_mode=False)
        if code == STOPPED:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except HfdError as error:
        _fail(str(error), error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("hfd: stopped. Run the same command again to continue.", file=sys.stderr)
        sys.exit(STOPPED)
    except BrokenPipeError:  # the reader (e.g. head) closed the pipe; prevent an error of the flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # a click usage error
            _fail(error.format_message())
        raise
    sys.exit(0)


def _fail(message: str, code: int = 2) -> NoReturn:
    for line in message.split("\n"):
        print(f"hfd: {printable(line)}", file=sys.stderr)
    sys.exit(code)
