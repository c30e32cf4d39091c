"""A receiver of webhooks as an application would have it: a real HTTP or HTTPS server that keeps what it is told."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="
LOOPBACK = "127.0.0.0/8"

#: What a receiver answers: a status, headers, and a wait before.
Answer = Callable[[], tuple[int, dict[str, str]]]


@dataclass
class Receiver:
    """What came, and what is answered."""

    url: str
    #: Body and headers, the latter in lower case, in the order of arrival.
    told: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    #: Statuses of the next answers, then 204 for ever; or what to do instead.
    answers: list[int | Answer] = field(default_factory=list)

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers in self.told]


@contextlib.contextmanager
def receiving(certificate: Path | None = None, answers: Sequence[int | Answer] = ()) -> Iterator[Receiver]:
    """A receiver on a port of the loopback interface; with a certificate it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            with lock:
                receiver.told.append((body, {name.lower(): value for name, value in self.headers.items()}))
                receiver.paths.append(self.path)
                answer = receiver.answers.pop(0) if receiver.answers else 204
            status, headers = (answer, {}) if isinstance(answer, int) else answer()
            with contextlib.suppress(OSError):  # whoever asked has left
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

        def do_GET(self) -> None:  # of whoever follows a redirect
            receiver.paths.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    lock = threading.Lock()
    with Quiet(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        receiver = Receiver(
            f"http{'s' if certificate else ''}://localhost:{server.server_port}/told", answers=list(answers)
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()
