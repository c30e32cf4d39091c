"""The port: `/metrics`, `/healthz`, `/readyz` and `/scale` of one worker process, on threads that nothing else waits for.

It is open from before a model is loaded until the process ends. What goes wrong with it costs no document anything: an
address that is taken is tried again, and a connection on which nothing comes is cut off.
"""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from gristmill.probes.health import Health
from gristmill_worker.metering.sections import Section
from gristmill_worker.process.metrics.sheet import registry_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: Told a model's name or digest, or None for all: status and JSON object.
Scale = Callable[[str | None], tuple[HTTPStatus, Mapping[str, Any]]]

#: Between two tries at an address that is taken, say by a worker that drains.
_AGAIN_S: Final = 5.0
#: Longest silence on a connection, and most of them at once.
_SILENCE_S: Final = 5.0
_MOST: Final = 16
_PAUSE_S: Final = 0.1


@contextmanager
def metrics_port(
    host: str, port: int, sections: Sequence[Section], health: Callable[[], Health], scale: Scale
) -> Iterator[MetricsPort]:
    """Answer while the block runs.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        sections: of the page, as they are whenever it is asked for.
        health: how this worker is.
        scale: what autoscalers are told of a model, or of all.
    """
    opened = MetricsPort(host, port, answers(sections, health, scale))
    try:
        yield opened
    finally:
        opened.close()


def answers(sections: Sequence[Section], health: Callable[[], Health], scale: Scale | None = None) -> WSGIApplication:
    """The application behind the port."""
    metrics = make_wsgi_app(registry_of(sections))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)  # type: ignore[no-any-return]  # prometheus_client's, untyped
        kind = "text/plain; charset=utf-8"
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, said = "405 Method Not Allowed", ["expected GET"]
        elif path == "/scale" and scale is not None:
            (model, *_) = parse_qs(environ.get("QUERY_STRING", "")).get("model") or [None]
            answered, told = scale(model)
            kind, status, said = "application/json", f"{answered.value} {answered.phrase}", [json.dumps(told)]
        elif path in ("/healthz", "/readyz"):
            status, said = _probed(health(), live=path == "/healthz")
        else:
            status, said = "404 Not Found", ["expected /metrics, /healthz, /readyz or /scale"]
        start_response(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
        return ["\n".join([*said, ""]).encode()]

    return application


def _probed(health: Health, *, live: bool) -> tuple[str, list[str]]:
    """As `gristmill health` says it."""
    well, yes = (health.live, "live") if live else (health.ready, "ready")
    return ("200 OK", [yes]) if well else ("503 Service Unavailable", [f"not {yes}", *health.findings])


class MetricsPort:
    """Listens, as soon as it can."""

    def __init__(self, host: str, port: int, application: WSGIApplication) -> None:
        self._host, self._port = host, port
        self._application = application
        self._closed = threading.Event()
        self._server = self._listen()
        self._thread = threading.Thread(target=self._run, name="gristmill-metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str | None:
        """Where it listens; None as long as it cannot."""
        server = self._server
        if server is None:
            return None
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{server.server_address[1]}"

    def close(self) -> None:
        """Listen no more; what is being answered is not waited for."""
        self._closed.set()
        self._thread.join()

    def _listen(self) -> _Server | None:
        try:
            server = _Server(self._host, self._port)
        except (OSError, OverflowError, UnicodeError) as error:
            log.warning(
                "metrics: expected an address that is free on this machine, got %s:%d (%s); trying again. "
                "GRISTMILL_METRICS_HOST and GRISTMILL_METRICS_PORT choose another",
                self._host,
                self._port,
                getattr(error, "strerror", None) or error,
            )
            return None
        server.set_app(self._application)
        log.info("metrics at %s:%d/metrics, /healthz and /readyz beside it", self._host, server.server_address[1])
        return server

    def _run(self) -> None:
        while not self._closed.is_set():
            if self._server is not None:
                self._answer(self._server)
            elif not self._closed.wait(_AGAIN_S):
                self._server = self._listen()
        if self._server is not None:
            self._server.server_close()

    def _answer(self, server: _Server) -> None:
        try:
            server.handle_request()
        except Exception:  # nothing known; whatever it is, the worker goes on, and so does the port
            log.exception("metrics: a connection was not taken")
            self._closed.wait(_PAUSE_S)


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_S

    def log_message(self, *_: Any) -> None:
        """A scrape is no news."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    #: Of one look for connections.
    timeout = _PAUSE_S

    def __init__(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        self._room = threading.Semaphore(_MOST)
        super().__init__((str(address[0]), port), _Handler)

    def server_bind(self) -> None:
        """Without a look into the names of this machine, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = map(str, self.server_address[:2])  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; where there are too many open files, not at once again."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own, unless there are too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See `ThreadingMixIn`."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up is no news."""
        log.debug("metrics: a request was not answered", exc_info=True)
