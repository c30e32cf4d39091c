"""The server: tools with their schemas, and errors that say what to do next."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations

from gristmill import __version__
from gristmill.adapters.mcp.access import Access
from gristmill.adapters.mcp.tools import Tools
from gristmill.client import Client
from gristmill_schemas.errors import GristmillError, InvalidInput

T = TypeVar("T")

_ABOUT = (
    "Searches collections of documents by meaning, in any language. Call list_collections first where you do not know which "
    "there are; find with the user's own question, then with other words or mode='hybrid' where nothing fits. Name the ids "
    "of documents that you rely on."
)
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


def build_server(client: Client, access: Access) -> MCPServer[Any]:
    """A server over a client, which has to stay open while it runs.

    Args:
        client: who searches and stores.
        access: what its clients may see and do.
    """
    tools = Tools(client, access)
    calls: list[tuple[Callable[..., Awaitable[Any]], ToolAnnotations]] = [
        (tools.find, _READS),
        (tools.list_collections, _READS),
    ]
    if access.writes:
        calls.append((tools.store, _WRITES))
    return _Server(
        "gristmill",
        title="Gristmill",
        version=__version__,
        instructions=_ABOUT,
        log_level="WARNING",
        tools=[_tool(call, hints) for call, hints in calls],
    )


class _Server(MCPServer[Any]):
    """A server that leaves no argument aside: one that a tool does not take, such as a tenant, is an error."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Call a tool by name with arguments. Raises ToolError."""
        taken = (self._tool_input_schema(name) or {}).get("properties", arguments)
        if unknown := sorted(set(arguments) - set(taken)):
            raise ToolError(f"{unknown[0]}: {name} takes no such argument; expected one of {', '.join(taken)}")
        return await super().call_tool(name, arguments, context)


def _tool(call: Callable[..., Awaitable[Any]], hints: ToolAnnotations) -> Tool:
    tool = Tool.from_function(_told(call), annotations=hints)
    tool.parameters["additionalProperties"] = False
    return tool


def _told(call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """The call, whose own errors are told to the client; any other it hears of without its words."""

    @functools.wraps(call)
    async def told(*args: Any, **named: Any) -> T:
        try:
            return await call(*args, **named)
        except InvalidInput as error:
            if error.field == "tenant":
                reason = "this collection keeps tenants apart: whoever runs this server has to start it with --tenant"
                raise ToolError(reason) from error
            raise ToolError(str(error)) from error
        except GristmillError as error:
            raise ToolError(f"{type(error).__name__}: {error}") from error

    return told
