"""`gristmill ingest`: documents from files into a collection, or what would become of them."""

from gristmill.cli.ingest.commands import app

__all__ = ["app"]
