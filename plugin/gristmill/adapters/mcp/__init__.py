"""Gristmill as an MCP server (extra `mcp`): `gristmill mcp`, over stdio or streamable HTTP."""

from gristmill.extras import brought_by

with brought_by("mcp", "`gristmill mcp`"):
    import mcp.server.mcpserver  # noqa: F401  # only to see whether it is there

from gristmill.adapters.mcp.access import Access
from gristmill.adapters.mcp.server import build_server
from gristmill.adapters.mcp.web import web_app

__all__ = ["Access", "build_server", "web_app"]
