"""The remote encoder against a real HTTP server that behaves well, badly, or not at all."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import httpx
import numpy as np
import pytest

from gristmill_schemas.errors import EncodingFailed, InvalidInput, ModelUnavailable, Unavailable
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.encoder.remote import ATTEMPTS, MAX_TEXTS, RemoteEncoder, estimate_tokens

SIZE = 16
TRUTH = HashEncoder(SIZE)


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server whose vectors are those of `hash:16`, times three."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = ["BAAI/bge-m3"]
        #: (status, headers) of answers to give before good ones.
        self.faults: list[tuple[int, dict[str, str]]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.as_numbers = False
        self.size = SIZE
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
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
        vectors = TRUTH.encode(TRUTH.tokenize(body["input"]))[:, : self.server.size] * 3
        data = [{"index": index, "embedding": self._shape(vector)} for index, vector in enumerate(vectors)]
        self._answer(200, {"data": data[::-1]})

    def _shape(self, vector: Any) -> Any:
        return vector.tolist() if self.server.as_numbers else base64.b64encode(vector.astype("<f4").tobytes()).decode()

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def encoder(server: Server) -> Iterator[RemoteEncoder]:
    opened = open_encoder(f"{server.url}#BAAI/bge-m3", api_key="secret", budget_tokens=200)
    assert isinstance(opened, RemoteEncoder)
    patient = RemoteEncoder(opened._client, "BAAI/bge-m3", opened.info, budget_tokens=200, wait_s=0.0)
    server.requests.clear()
    yield patient
    patient.close()
    opened.close()


def expected(texts: list[str]) -> Any:
    return TRUTH.encode(TRUTH.tokenize(texts))


def test_vectors_come_back_in_order_and_normalised(encoder: RemoteEncoder, server: Server) -> None:
    texts = [f"text number {number} " * (number % 7 + 1) for number in range(150)]
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(texts)), expected(texts), atol=1e-6)
    assert len(server.requests) > 4
    for body in server.requests:
        costs = [estimate_tokens(text) for text in body["input"]]
        assert len(costs) <= MAX_TEXTS
        assert len(costs) == 1 or sum(costs) <= 200
        assert (body["model"], body["encoding_format"]) == ("BAAI/bge-m3", "base64")
    assert server.keys == {"Bearer secret"}


def test_servers_that_only_know_numbers_work_too(encoder: RemoteEncoder, server: Server) -> None:
    server.as_numbers = True
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(["a", "b"])), expected(["a", "b"]), atol=1e-6)


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_server_is_asked_again(encoder: RemoteEncoder, server: Server, status: int) -> None:
    server.faults = [(status, {"Retry-After": "0"})] * 2
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(["a"])), expected(["a"]), atol=1e-6)
    assert len(server.requests) == 3


def test_retries_end(encoder: RemoteEncoder, server: Server) -> None:
    server.faults = [(503, {"Retry-After": "0"})] * (ATTEMPTS + 1)
    with pytest.raises(Unavailable, match="503") as caught:
        encoder.encode(encoder.tokenize(["a"]))
    assert caught.value.retry_after_s == 0
    assert len(server.requests) == ATTEMPTS


def test_a_refusal_is_not_repeated(encoder: RemoteEncoder, server: Server) -> None:
    server.faults = [(413, {})]
    with pytest.raises(EncodingFailed, match="413"):
        encoder.encode(encoder.tokenize(["a"]))
    assert len(server.requests) == 1


def test_vectors_of_another_size_are_refused(encoder: RemoteEncoder, server: Server) -> None:
    server.size = 8
    with pytest.raises(EncodingFailed, match="expected 16 dimensions from the server, got 8"):
        encoder.encode(encoder.tokenize(["a"]))


def test_an_empty_batch_asks_nothing(encoder: RemoteEncoder, server: Server) -> None:
    assert encoder.encode([]).shape == (0, SIZE)
    assert not server.requests


def test_the_only_model_of_a_server_needs_no_name(server: Server) -> None:
    encoder = open_encoder(server.url)
    assert (encoder.info.model, encoder.info.dimensions, encoder.device) == ("BAAI/bge-m3", SIZE, "remote")
    encoder.close()


def test_one_of_several_models_must_be_named(server: Server) -> None:
    server.models = ["a", "b"]
    with pytest.raises(InvalidInput, match="say which"):
        open_encoder(server.url)


def test_a_server_that_is_not_there_makes_the_model_unavailable() -> None:
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1"):
        open_encoder("http://127.0.0.1:1/v1")


def test_nothing_of_httpx_escapes(encoder: RemoteEncoder) -> None:
    gone = RemoteEncoder(httpx.Client(base_url="http://127.0.0.1:1/v1/"), "BAAI/bge-m3", encoder.info, wait_s=0.0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        gone.encode(gone.tokenize(["a"]))
    gone.close()
