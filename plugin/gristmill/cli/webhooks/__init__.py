"""`gristmill webhooks`."""

from gristmill.cli.webhooks.commands import app

__all__ = ["app"]
