"""`gristmill similar`, `scroll`, `export` and `facets`."""

from gristmill.cli.browsing.commands import app

__all__ = ["app"]
