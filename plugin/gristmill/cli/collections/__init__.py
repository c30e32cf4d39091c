"""`gristmill collections`: what collections are, and how far their indexes are."""

from gristmill.cli.collections import indexing
from gristmill.cli.collections.commands import app, commands

commands.add_typer(indexing.app)

__all__ = ["app"]
