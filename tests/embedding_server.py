"""An OpenAI-compatible embeddings server on this machine, which behaves well, badly, or not at all, as a test wants it."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Lock, Thread
from typing import Any

from gristmill_worker.encoder.hash_encoder import HashEncoder

SIZE = 16


class EmbeddingServer(ThreadingHTTPServer):
    """An OpenAI-compatible server whose vectors are those of `hash:16`, times three."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = ["BAAI/bge-m3"]
        #: (status, headers) of answers to give before good ones.
        self.faults: list[tuple[int, dict[str, str]]] = []
        #: What becomes of a good answer's records.
        self.spoil: Callable[[list[dict[str, Any]]], object] = lambda data: {"data": data}
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.as_numbers = False
        #: Whether numbers are all that may be asked for.
        self.strict = False
        #: Texts with this in them are refused with 413.
        self.refused: str | None = None
        #: Requests of more texts are refused in these words.
        self.most: int | None = None
        self.too_many, self.too_many_status = "", 413
        #: Requests that have to be there before any is answered.
        self.together: Barrier | None = None
        #: (status, body) of the answer to a request that is to be refused.
        self.judge: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda body: None
        #: `usage.prompt_tokens` of an answer to these texts; None leaves `usage` out.
        self.counted: Callable[[list[str]], Any] = lambda texts: None
        self.size = SIZE
        self.truth = HashEncoder(SIZE, max_tokens=2**20)
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            fault = self.server.faults.pop(0) if self.server.faults else None
            self.server.requests.append(body)
            self.server.keys.add(self.headers.get("Authorization"))
        if fault is not None:
            self._answer(fault[0], {"error": "as the test wants it"}, fault[1])
            return
        if (judged := self.server.judge(body)) is not None:
            self._answer(*judged)
            return
        if self.server.refused is not None and any(self.server.refused in text for text in body["input"]):
            self._answer(413, {"error": "too large"})
            return
        if self.server.as_numbers and "encoding_format" in body and self.server.strict:
            self._answer(422, {"error": "encoding_format: expected 'float', got 'base64'"})
            return
        if self.server.most is not None and len(body["input"]) > self.server.most:
            self._answer(self.server.too_many_status, {"error": self.server.too_many})
            return
        if self.server.together is not None:
            self.server.together.wait(60)
        truth = self.server.truth
        vectors = truth.encode(truth.tokenize(body["input"]))[:, : self.server.size] * 3
        data = [{"index": index, "embedding": self._shape(vector)} for index, vector in enumerate(vectors)]
        answer = self.server.spoil(data[::-1])
        if isinstance(answer, dict) and (counted := self.server.counted(body["input"])) is not None:
            answer = {**answer, "usage": {"prompt_tokens": counted, "total_tokens": counted}}
        self._answer(200, answer)

    def _shape(self, vector: Any) -> Any:
        return vector.tolist() if self.server.as_numbers else base64.b64encode(vector.astype("<f4").tobytes()).decode()

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """Runs one on a free port."""
    with EmbeddingServer() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
