"""The root of the command line, and the one place where errors become messages and exit codes.

Exit codes: 0 done; 1 it failed, or part of the input was refused; 2 the call itself was wrong; 130 Ctrl-C.
"""

from __future__ import annotations

import sys

import typer

from gristmill.cli.commands import Commands
from gristmill_schemas.errors import GristmillError, InvalidInput, ModelUnavailable, NotInstalled


def build() -> typer.Typer:
    """All commands, those of the worker included."""
    root = typer.Typer(
        name="gristmill",
        cls=Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        # Help as plain text: it is there twice as fast, and on every terminal.
        rich_markup_mode=None,
    )

    @root.callback()
    def gristmill() -> None:
        """Texts in, vectors out: embed documents into Qdrant with many workers, search them with an instruction."""

    return root


def main() -> None:
    """Entry point of the `gristmill` program."""
    wants_json = "--json" in sys.argv
    try:
        code = build()(standalone_mode=False)  # click gives back the code of `typer.Exit`, and raises all else
        sys.exit(code if isinstance(code, int) else 0)
    except GristmillError as error:
        _report(type(error).__name__, str(error), wants_json)
        sys.exit(2 if isinstance(error, InvalidInput | ModelUnavailable | NotInstalled) else 1)
    except (KeyboardInterrupt, typer.Abort):
        _report("Interrupted", "interrupted; what was accepted stays accepted, the same command goes on", wants_json)
        sys.exit(130)
    except Exception as error:
        if (show := getattr(error, "format_message", None)) is None:  # click's usage errors know how to show themselves
            raise
        _report("UsageError", show(), wants_json)
        sys.exit(2)


def _report(kind: str, message: str, wants_json: bool) -> None:
    from rich.markup import escape

    from gristmill.cli.output import notes, print_json

    if wants_json:
        print_json({"error": kind, "message": message})
    else:
        notes.print(f"[bold red]{kind}[/]: {escape(message)}", highlight=False, soft_wrap=True)
