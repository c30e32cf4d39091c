"""`gristmill serve`. Imports nothing heavy until it runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gristmill.extras import brought_by
from gristmill_worker.process.logs.set_up import LogFormat, set_up_logging

if TYPE_CHECKING:
    from gristmill_worker.server.running import HttpServer

app = typer.Typer()


@app.command()
def serve(
    model: Annotated[
        list[str] | None, typer.Option(help="Folder or hub id; default GRISTMILL_MODEL. Repeat to serve several.")
    ] = None,
    reranker: Annotated[
        str | None, typer.Option(help="Folder, hub id or URL of a reranker, served beside; default GRISTMILL_RERANKER.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all. Default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default 8000.")] = None,
    api_keys: Annotated[
        Path | None, typer.Option(help="File of API keys, one to a line; without it everybody is let in.")
    ] = None,
    live: Annotated[
        str | None, typer.Option(help="Live page at /live/: auto, on, read-only, off. auto: where a Redis is set.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Tokens per batch, instead of measuring.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning, error")] = "info",
    log_format: Annotated[LogFormat, typer.Option(help="text for people, json for programs.")] = LogFormat.TEXT,
) -> None:
    """Answer OpenAI's and Cohere's HTTP APIs; no Redis, no Qdrant.

    Until SIGTERM or Ctrl-C. /docs lists the routes.
    """
    from gristmill.settings import load_settings
    from gristmill_worker.settings import ServerSettings

    with brought_by("serve", "`gristmill serve`"):
        from gristmill_worker.server.running import run_server

    set_up_logging(log_level, form=log_format)
    settings = load_settings(
        ServerSettings,
        model=model[0] if model else None,
        reranker=reranker,
        device=device,
        dtype=dtype,
        budget_tokens=budget_tokens,
        serve_host=host,
        serve_port=port,
        serve_api_keys=str(api_keys) if api_keys else None,
        serve_live=live,
    )
    run_server(settings, model or (), ready=_say_ready)


def _say_ready(server: HttpServer) -> None:
    names = ", ".join(each.name for each in server.service.all)
    keys = "with API keys" if server.service.keys else "without API keys"
    live = f", live page at {server.live}" if server.live else ""
    logging.getLogger("gristmill").info("ready: %s at %s, %s%s", names, server.address, keys, live)
