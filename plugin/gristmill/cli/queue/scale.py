"""`gristmill scale`: the signal for autoscalers, printed, or served where no worker lives that could serve it."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any
from urllib.parse import parse_qs

import typer

from gristmill import ClientSettings
from gristmill.cli.output import JsonFlag, aside, print_json, say
from gristmill.ingest.scaling import answer_scale, scaling_signal
from gristmill.ledger import Ledger, RedisLedger
from gristmill.ledger.connection import connect
from gristmill.settings import load_settings
from gristmill_schemas.errors import InvalidInput

app = typer.Typer()


@app.command()
def scale(
    model: Annotated[str | None, typer.Option(help="Name or digest; default all.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Answer GET /scale here; 0 takes a free one.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    as_json: JsonFlag = False,
) -> None:
    """Seconds of work per model, for autoscalers.

    With --port it is served as JSON until Ctrl-C or SIGTERM: for KEDA, while no worker lives that could.
    """
    settings = load_settings(ClientSettings)
    with closing(connect(settings)) as client:
        ledger = RedisLedger(settings, client)
        if port is not None:
            _serve(ledger, settings.key_prefix, host, port)
            return
        signal = scaling_signal(ledger, settings.key_prefix, model)
    if as_json:
        print_json(signal)
    else:
        for each in signal.get("models", [signal]):
            say(f"{each['seconds']:,} s of work for {each['model'] or each['model_digest']}: LLEN {each['list']}")


def _serve(ledger: Ledger, key_prefix: str, host: str, port: int) -> None:
    try:
        server = _Server((host, port), partial(_Scale, ledger, key_prefix))
    except OSError as error:
        raise InvalidInput(
            f"port: expected an address that is free on this machine, got {host}:{port} ({error.strerror})",
            field="port",
        ) from None
    # As the first process of a container it would not hear of it otherwise.
    signal.signal(signal.SIGTERM, server.leave)
    with server:
        aside(f"ready: http://{host}:{server.server_port}/scale")
        server.serve_forever()


class _Server(ThreadingHTTPServer):
    """Ends soon after it is told to."""

    _told = False

    def leave(self, *_: object) -> None:
        """Have `serve_forever` end. What a signal's handler raises may be lost, so that is done at the next turn."""
        self._told = True

    def service_actions(self) -> None:
        """Called at every turn."""
        if self._told:
            raise SystemExit(0)


class _Scale(BaseHTTPRequestHandler):
    """Answers `GET /scale`, and `/healthz` for whoever looks after this process."""

    #: Whoever connects and says nothing is sent away, seconds.
    timeout = 10

    def __init__(self, ledger: Ledger, key_prefix: str, *connection: Any) -> None:
        self._ledger, self._key_prefix = ledger, key_prefix
        super().__init__(*connection)

    def do_GET(self) -> None:  # the name that http.server calls
        """Answer one request."""
        path, _, query = self.path.partition("?")
        if path == "/scale":
            model = next(iter(parse_qs(query).get("model", ())), None)
            status, body = answer_scale(self._ledger, self._key_prefix, model)
        elif path == "/healthz":
            status, body = HTTPStatus.OK, {"status": "ok"}
        else:
            status, body = HTTPStatus.NOT_FOUND, {"error": "expected /scale or /healthz"}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """An autoscaler asks every few seconds."""
