"""The server over streamable HTTP, for whoever has a key."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from mcp.server.mcpserver import MCPServer

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

_REFUSED = b'{"error": "expected a key of this server: Authorization: Bearer KEY"}'


def web_app(server: MCPServer[Any], *, path: str = "/mcp", host: str = "127.0.0.1", keys: Iterable[str] = ()) -> App:
    """An ASGI application.

    Args:
        server: what `build_server` gave.
        path: where it answers.
        host: where it will listen; on a loopback address only requests that were meant for one are answered.
        keys: of which a request must bring one as `Authorization: Bearer KEY`; none lets everybody in.
    """
    app: App = server.streamable_http_app(streamable_http_path=path, host=host)
    known = [each.encode() for each in keys]
    return _locked(app, known) if known else app


def _locked(app: App, keys: list[bytes]) -> App:
    async def locked(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not _has_key(scope, keys):
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSED})
            return
        await app(scope, receive, send)

    return locked


def _has_key(scope: Scope, keys: list[bytes]) -> bool:
    kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
    # Every key is compared, in a time that tells nothing of it.
    equal = [hmac.compare_digest(given.strip(), each) for each in keys]
    return kind.lower() == b"bearer" and any(equal)
