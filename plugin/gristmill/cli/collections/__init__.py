"""`gristmill collections`: what collections are, how far their indexes are, and the indexes over their metadata."""

from gristmill.cli.collections import indexing, payload
from gristmill.cli.collections.commands import app, commands

commands.add_typer(indexing.app)
commands.add_typer(payload.app)

__all__ = ["app"]
