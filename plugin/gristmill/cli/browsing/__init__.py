"""`gristmill similar` and `gristmill facets`."""

from gristmill.cli.browsing.commands import app

__all__ = ["app"]
