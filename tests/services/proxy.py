"""A proxy before a server, in a thread of the test: it passes requests on, limits their size, or answers for the server."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import httpx

from services.model_server import Answer

#: What nginx says of a request that is larger than its `client_max_body_size`.
TOO_LARGE = Answer(413, b"<html><head><title>413 Request Entity Too Large</title></head></html>", "text/html")
#: Looks at method and path; None passes the request on.
Fault = Callable[[str, str], Answer | None]


class Proxy:
    """An HTTP proxy on the loopback interface.

    Args:
        target: URL that requests are passed on to; None answers for it always, by `fault`.
        most_bytes: Largest body that is passed on.
        fault: What is answered instead.
    """

    def __init__(self, target: str | None = None, *, most_bytes: int | None = None, fault: Fault | None = None) -> None:
        self.target = target
        self.most_bytes = most_bytes
        self.fault = fault
        #: Sizes of the bodies that were passed on, and of those that were refused.
        self.passed: list[int] = []
        self.refused: list[int] = []
        self._server = _Listener(("127.0.0.1", 0), self)

    @functools.cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(timeout=60)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where it listens, as a URL."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The answer to one request."""
        if self.most_bytes is not None and len(body) > self.most_bytes:
            self.refused.append(len(body))
            return TOO_LARGE
        if self.fault is not None and (answer := self.fault(method, path)) is not None:
            return answer
        self.passed.append(len(body))
        came = self._http.request(method, f"{self.target}{path}", headers=headers, content=body)
        return Answer(came.status_code, came.content, came.headers.get("content-type", ""))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        if "_http" in vars(self):
            self._http.close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: Proxy) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        own = {"host", "content-length", "connection", "accept-encoding"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
        answer = self.server.owner.answer(self.command, self.path, headers, body)
        self.send_response(answer.status)
        length = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.content))}
        for name, value in {**length, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _do  # noqa: N815  # the base class's names

    def log_message(self, *_: object) -> None:
        """Quiet."""
