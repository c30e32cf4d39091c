"""`gristmill mcp`."""

from gristmill.cli.mcp.command import app

__all__ = ["app"]
