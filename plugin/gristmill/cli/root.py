"""The root of the command line. What goes wrong in it is told by `failures`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gristmill.cli.commands import Commands
from gristmill.cli.failures import guarded
from gristmill_schemas.redaction import clean_process


def build() -> typer.Typer:
    """All commands, those of the worker included."""
    root = typer.Typer(
        name="gristmill",
        cls=Commands,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        # Help as plain text: it is there twice as fast, and on every terminal.
        rich_markup_mode=None,
    )

    @root.callback(invoke_without_command=True)
    def gristmill(
        context: typer.Context,
        version: Annotated[
            bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version.")
        ] = False,
        debug: Annotated[
            bool, typer.Option("--debug", help="Show where an error comes from. Before or after the command.")
        ] = False,
    ) -> None:
        """Texts in, vectors out: embed documents into Qdrant with many workers, search them with an instruction."""
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return root


def _show_version(wanted: bool) -> None:
    if wanted:
        from gristmill import __version__

        typer.echo(f"gristmill {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the `gristmill` program."""
    clean_process()
    sys.exit(guarded(lambda arguments: build()(arguments, prog_name="gristmill", standalone_mode=False), sys.argv[1:]))
