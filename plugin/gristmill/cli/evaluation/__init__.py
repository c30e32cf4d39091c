"""`gristmill eval`: a module for each of its commands, all joined here."""

import typer

from gristmill.cli.evaluation import likeness, report, retrieval, tune

app = typer.Typer()
commands = typer.Typer(help="How good searches are, in figures with intervals.", no_args_is_help=True)
app.add_typer(commands, name="eval")
commands.add_typer(retrieval.app)
commands.add_typer(tune.app)
commands.add_typer(likeness.app)
commands.add_typer(report.app)

__all__ = ["app"]
