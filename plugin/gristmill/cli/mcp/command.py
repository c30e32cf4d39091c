"""`gristmill mcp`: a server for clients of the Model Context Protocol. On stdio nothing but the protocol is on stdout."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill.cli.output import aside
from gristmill.startup import open_client
from gristmill_schemas.errors import InvalidInput

app = typer.Typer()


@app.command()
def mcp(
    collections: Annotated[
        list[str] | None, typer.Option("--collection", "-c", help="Only this collection; repeatable. Default: all.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's documents; no client can choose another.")
    ] = None,
    allow_writes: Annotated[bool, typer.Option("--allow-writes", help="Offer the tool that stores documents.")] = False,
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", help="What searches are for where a client does not say it.")
    ] = None,
    most_hits: Annotated[int, typer.Option("--max-hits", min=1, help="Most hits of one search.")] = 20,
    most_characters: Annotated[
        int,
        typer.Option("--max-chars", min=200, help="Most characters of one answer; the rest is cut, and said to be."),
    ] = 20_000,
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP instead of stdio.")] = False,
    host: Annotated[str, typer.Option(help="With --http: where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="With --http: the port; 0 takes a free one.")] = 8765,
    path: Annotated[str, typer.Option(help="With --http: where it answers.")] = "/mcp",
    api_keys: Annotated[
        Path | None, typer.Option("--api-keys", help="With --http: a file of keys, one a line; clients bring one.")
    ] = None,
) -> None:
    """Serve collections to MCP clients; read-only by default."""
    from gristmill.adapters.mcp import Access, build_server, web_app

    keys = [] if api_keys is None else _read_keys(api_keys)
    if http and not keys and not _is_loopback(host):
        raise InvalidInput(
            f"host: expected a loopback address (127.0.0.1) without --api-keys FILE, got {host!r}: whoever reaches it could "
            "read all of it",
            field="host",
        )
    access = Access(tuple(collections or ()), tenant, allow_writes, instruction, most_hits, most_characters)
    with open_client(aside) as client:
        server = build_server(client, access)
        if http:
            _serve(web_app(server, path=path, host=host, keys=keys), host, port, path)
        else:
            server.run("stdio")


def _serve(application: Any, host: str, port: int, path: str) -> None:
    import socket

    import uvicorn

    bare = host.strip("[]")
    try:
        listening = socket.create_server((bare, port), family=socket.AF_INET6 if ":" in bare else socket.AF_INET)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInput(f"port: cannot listen at {host}:{port}: {reason}; another by --port", field="port") from None
    with listening:
        shown = f"[{bare}]" if ":" in bare else bare
        aside(f"MCP over HTTP at http://{shown}:{listening.getsockname()[1]}{path}; Ctrl-C ends it")
        uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="on")).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _read_keys(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InvalidInput(f"api_keys: {str(file)!r} cannot be read: {reason}", field="api_keys") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise InvalidInput(
            f"api_keys: expected at least one key in {str(file)!r}, one a line, got none", field="api_keys"
        )
    return keys
