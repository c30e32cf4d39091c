"""`gristmill serve` and `gristmill worker --serve` as processes: alone, beside parcels, stopped, refused, and fuzzed."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

import fuzzing
from gristmill import Client, Document
from gristmill.settings import variable
from services import QdrantServer
from services.serve import ServeProcess
from waiting import eventually

KEY = "sk-of-the-test-0123456789"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[ServeProcess]:
    """`gristmill serve` with keys, a model and a reranker, and no server beside it."""
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n", encoding="utf-8")
    keys.chmod(0o600)
    options = ["--model", "hash:16", "--reranker", "overlap:64", "--api-keys", str(keys)]
    nowhere = {"GRISTMILL_REDIS_URL": "redis://127.0.0.1:1/0", "GRISTMILL_QDRANT_URL": "http://127.0.0.1:1"}
    limits = {"GRISTMILL_SERVE_MAX_BODY_BYTES": "200000", "GRISTMILL_SERVE_READ_TIMEOUT_S": "2"}
    with ServeProcess(tmp_path / "serve", ["serve", *options], nowhere | limits) as server:
        yield server


@pytest.mark.slow
@pytest.mark.fuzz
def test_bad_requests_are_refused_by_a_sentence_and_leave_the_server_as_it_was(alone: ServeProcess) -> None:
    with httpx.Client(base_url=alone.address, timeout=60, headers={"authorization": f"Bearer {KEY}"}) as http:
        attack = Attack(alone, http)
        attack.run(fuzzing.COUNT // 3)
        before = resident_mb(alone)
        attack.run(fuzzing.COUNT - fuzzing.COUNT // 3)
        assert attack.wrong == []
        assert attack.refused > fuzzing.COUNT // 4
        # Of those that were cut off or never finished nothing is left.
        attack.slow.close()
        eventually(lambda: "gristmill_requests_in_flight 0.0" in http.get("/metrics").text)
        assert resident_mb(alone) - before < 30
        assert http.post("/v1/embeddings", json={"model": "hash:16", "input": "a"}).is_success
    assert "Traceback" not in alone.log_path.read_text(encoding="utf-8")


VALID: dict[str, Callable[[], Any]] = {
    "/v1/embeddings": lambda: {
        "model": "hash:16", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64", "user": "u",
        "input_type": "query", "instruction": "find what answers", "truncate": "END",
    },
    "/v2/embed": lambda: {
        "model": "hash:16", "texts": ["a", "b"], "input_type": "search_query", "output_dimension": 8,
        "embedding_types": ["float", "int8", "binary"], "truncate": "START",
    },
    "/v1/rerank": lambda: {
        "model": "overlap:64", "query": "a", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True,
        "instruct": "find what answers", "truncate": "END",
    },
    "/tokenize": lambda: {"model": "hash:16", "prompt": "a", "add_special_tokens": True},
}  # fmt: skip


class Attack:
    """Requests that nobody would send on purpose, and what was wrong with the answers."""

    def __init__(self, server: ServeProcess, http: httpx.Client) -> None:
        self._server, self._http = server, http
        self._rng = random.Random(fuzzing.SEED)
        self.refused = 0
        self.wrong: list[str] = []
        #: Connections on which nothing more comes.
        self.slow = contextlib.ExitStack()

    def run(self, count: int) -> None:
        bodies = {path: fuzzing.inputs(valid, count, self._rng.randrange(10**6)) for path, valid in VALID.items()}
        for number in range(count):
            path = self._rng.choice(list(VALID))
            match number % 20:
                case 0:
                    self._post(path, next(bodies[path]), headers={"authorization": self._rng.choice(WRONG_KEYS)})
                case 1:
                    self._post(path, b'{"input": "' + b"a" * 300_000 + b'"}')
                case 2:
                    self._post(path, iter([b"["] * 100 + [b"1, " * 30_000] * 3))
                case 3 | 4:
                    self._broken(path, next(bodies[path]))
                case 5:
                    self._post(self._rng.choice(STRANGE_PATHS), next(bodies[path]))
                case _:
                    self._post(path, next(bodies[path]))

    def _post(self, path: str, content: Any, headers: dict[str, str] | None = None) -> None:
        kind = {"content-type": "application/json"}
        try:
            answer = self._http.post(path, content=content, headers=kind | (headers or {}))
        except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):
            return  # refused before all of it was sent
        self.refused += not answer.is_success
        if (problem := wrong_with(answer)) is not None:
            self.wrong.append(f"{path} {answer.status_code}: {problem}; {answer.text[:300]}")

    def _broken(self, path: str, body: bytes) -> None:
        """Half a request: cut off, left open, or none at all."""
        connection = socket.create_connection(("127.0.0.1", self._server.port), timeout=60)
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        half = f"{head}content-length: {len(body) + 10}\r\n\r\n".encode() + body[:1000]
        with contextlib.suppress(OSError):
            connection.sendall(self._rng.choice((half, half[:40], self._rng.randbytes(200), b"GET / HTTP/9\r\n\r\n")))
        self.slow.enter_context(connection) if self._rng.random() < 0.2 else connection.close()


WRONG_KEYS = [
    "",
    "Bearer",
    "Bearer sk-other",
    f"Basic {KEY}",
    f"bearer{KEY}",
    KEY,
    f"Bearer {KEY}x",
    "Bearer " + "x" * 5000,
]
STRANGE_PATHS = [
    "/",
    "/v1",
    "/v1/embeddings/",
    "/v1/models/x",
    "/%00",
    "/../etc/passwd",
    "/v2/embed?x=1",
    "/" + "a" * 3000,
]


def wrong_with(answer: httpx.Response) -> str | None:
    """What is wrong with an answer; None where nothing is."""
    if answer.is_success:
        return None
    if answer.status_code not in (400, 401, 404, 405, 408, 413, 415, 307):
        return "no status for a bad request"
    if answer.status_code == 307 or not answer.headers.get("x-request-id"):
        return "no answer of ours"
    told = answer.json()
    return fuzzing.not_a_sentence(told["message"] if "message" in told else told["error"]["message"])


def resident_mb(server: ServeProcess) -> float:
    pages = int(Path(f"/proc/{server.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.slow
def test_a_process_answers_langchain_and_ends_in_order(alone: ServeProcess) -> None:
    with openai.OpenAI(base_url=f"{alone.address}/v1", api_key=KEY) as client:
        expected = [client.embeddings.create(model="hash:16", input=text).data[0].embedding for text in ("a", "b")]
    with httpx.Client(timeout=60) as http:
        embeddings = OpenAIEmbeddings(
            model="hash:16",
            openai_api_base=f"{alone.address}/v1",
            openai_api_key=SecretStr(KEY),
            check_embedding_ctx_length=False,
            http_client=http,
        )
        np.testing.assert_allclose(embeddings.embed_documents(["a", "b"]), expected, atol=1e-6)
        np.testing.assert_allclose(embeddings.embed_query("a"), expected[0], atol=1e-6)
    alone.stop()
    assert alone.exit_code == 0
    log = alone.log_path.read_text(encoding="utf-8")
    assert "stopping: " in log
    assert KEY not in log


@pytest.mark.slow
def test_a_port_that_is_taken_ends_the_start_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "gristmill", "serve", "--model", "hash:16"]
        port = str(taken.getsockname()[1])
        done = subprocess.run([*command, "--port", port], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "port: expected an address that is free" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_worker_answers_http_on_the_engine_that_works_on_its_parcels(
    tmp_path: Path, redis_url: str, qdrant_server: QdrantServer, collection_name: str
) -> None:
    settings: dict[str, Any] = {
        "redis_url": redis_url,
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
        "model": "hash:16",
    }
    environment = {variable(name): str(value) for name, value in settings.items()}
    arguments = ["worker", "--serve", "--no-supervise"]
    with ServeProcess(tmp_path / "worker", arguments, environment) as worker, Client(**settings) as client:
        client.create_collection(collection_name)
        job = client.enqueue(collection_name, [Document(id=f"d{n}", text=f"text {n}") for n in range(100)])
        answer = httpx.post(
            f"{worker.address}/v1/embeddings", json={"model": "hash:16", "input": ["text 1"]}, timeout=60
        ).json()
        assert job.wait(timeout_s=60).stored == 100
        expected = client.embed("text 1", model="hash:16", kind="document")
        np.testing.assert_allclose(answer["data"][0]["embedding"], expected, atol=1e-6)
        shown = (
            'gristmill_texts_total{lane="http",model="hash:16"} 1.0',
            'gristmill_documents_total{model="hash:16",outcome="stored"} 100.0',
        )

        def one_page_shows_both() -> bool:
            """Once the last parcel is counted, a moment after its job is done."""
            figures = httpx.get(f"{worker.address}/metrics", timeout=60).text
            return all(line in figures for line in shown)

        eventually(one_page_shows_both)
        worker.stop()
        assert worker.exit_code == 0
