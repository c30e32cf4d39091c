"""An OpenAI-compatible model server in a thread of the test: `/v1/models` and `/v1/embeddings`, and every way to be away.

Vectors are a pure function of the text that the test brings. `fault` decides per request whether something else is
answered; `leave` and `come_back` close the port and open it again; `silent` takes requests and never answers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from services.process import free_port

#: Texts to float vectors, one row each.
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Answer:
    """What is sent instead of vectors."""

    status: int
    content: bytes = b'{"error": {"message": "as the test wants it"}}'
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


#: Looks at the texts of a request; None answers it properly.
Fault = Callable[[Sequence[str]], Answer | None]

#: What a proxy says while the server behind it starts, with the status of a success.
HTML_PAGE = Answer(200, b"<!doctype html><title>Please wait</title><h1>The service is starting</h1>", "text/html")
OVERLOADED = Answer(503, headers={"Retry-After": "0"})
WRONG_KEY = Answer(401)
REFUSED = Answer(400)


def always(answer: Answer) -> Fault:
    """The same answer to whoever asks."""
    return lambda _: answer


class ModelServer:
    """A model server on the loopback interface.

    Args:
        encode: what the model does.
        model: its name.
        floats: answer with JSON numbers although base64 is asked for, as servers do that know only those.
    """

    def __init__(self, encode: Encode, *, model: str = "mill-tiny", floats: bool = False) -> None:
        self.encode = encode
        self.model = model
        self.floats = floats
        self.fault: Fault | None = None
        self.silent = False
        #: Requests that were answered by a fault, or not at all.
        self.failed = 0
        self.served = 0
        #: Requests that wait for an answer which does not come.
        self.hanging = 0
        self._port = free_port()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server: _Listener | None = None
        self._thread = threading.Thread()

    @property
    def url(self) -> str:
        """What `--model` takes."""
        return f"http://127.0.0.1:{self._port}/v1#{self.model}"

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._server is not None

    def come_back(self) -> Self:
        """Open the port."""
        self._ended.clear()
        self._server = _Listener(("127.0.0.1", self._port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def leave(self) -> None:
        """Close the port and every connection."""
        self._ended.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._thread.join()
            self._server = None

    def __enter__(self) -> Self:
        return self.come_back()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def answer(self, texts: Sequence[str]) -> Answer | None:
        """The answer to a request for vectors; None hangs up without one."""
        fault = self.fault(texts) if self.fault else None
        with self._lock:
            self.failed += self.silent or fault is not None
            self.served += not self.silent and fault is None
        if self.silent:
            self._keep_waiting()
        if self._ended.is_set():
            return None
        return fault or Answer(200, json.dumps(self._vectors(texts)).encode())

    def _keep_waiting(self) -> None:
        with self._lock:
            self.hanging += 1
        while self.silent and not self._ended.wait(0.02):
            pass
        with self._lock:
            self.hanging -= 1

    def _vectors(self, texts: Sequence[str]) -> dict[str, Any]:
        rows = self.encode(texts)
        shape = (lambda row: row.tolist()) if self.floats else _base64
        data = [{"object": "embedding", "index": index, "embedding": shape(row)} for index, row in enumerate(rows)]
        return {"object": "list", "model": self.model, "data": data}


def _base64(row: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: ModelServer) -> None:
        self.owner = owner
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        owner = self.server.owner
        listed = json.dumps({"object": "list", "data": [{"id": owner.model, "object": "model"}]}).encode()
        self._send((owner.fault and owner.fault([])) or Answer(200, listed))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        answer = self.server.owner.answer(texts)
        if answer is None:
            self.close_connection = True
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        length = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.content))}
        for name, value in {**length, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        """Quiet."""
