"""`gristmill queue` and `scale`."""

from gristmill.cli.queue.commands import app

__all__ = ["app"]
