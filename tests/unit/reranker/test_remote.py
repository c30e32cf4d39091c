"""Rerankers behind servers: each asked in its own words, its scores in our order, and its refusals understood."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from gristmill import ModelUnavailable
from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_worker.reranker import open_reranker

#: From path and body to status and answer.
Answers = Callable[[str, dict[str, Any]], tuple[int, Any]]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    asked: list[dict[str, Any]]
    answers: Answers


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append({"path": self.path, "key": self.headers.get("authorization"), **body})
        status, answer = server.answers(self.path, body)
        sent = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def serving(answers: Answers) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    server = _Quiet(("127.0.0.1", 0), _Handler)
    server.asked, server.answers = [], answers
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def worth(text: str) -> float:
    return len(text) / 100


def best_first(texts: list[str], key: str) -> list[dict[str, Any]]:
    found = [{"index": place, key: worth(text), "document": {"text": text}} for place, text in enumerate(texts)]
    return sorted(found, key=lambda each: -float(each[key]))


def vllm(_: str, body: dict[str, Any]) -> tuple[int, Any]:
    if "documents" not in body:
        return 400, {"error": {"message": "documents: Field required"}}
    return 200, {"id": "r", "results": best_first(body["documents"], "relevance_score"), "usage": {"total_tokens": 9}}


def sglang(_: str, body: dict[str, Any]) -> tuple[int, Any]:
    if "documents" not in body:
        return 422, {"detail": "documents: Field required"}
    return 200, best_first(body["documents"], "score")


def tei(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    if "texts" not in body:
        return 422, {"error": "missing field `texts`", "error_type": "Validation"}
    if len(body["texts"]) > 8:
        return 413, {
            "error": f"batch size {len(body['texts'])} > maximum allowed batch size 8",
            "error_type": "Validation",
        }
    return 200, best_first(body["texts"], "score")


DOCUMENTS = ["x" * (1 + 7 * n % 40) for n in range(40)]


@pytest.mark.parametrize(("answers", "key"), [(vllm, "documents"), (sglang, "documents"), (tei, "texts")])
def test_scores_come_in_the_order_of_the_documents_whatever_order_they_had(answers: Answers, key: str) -> None:
    with serving(answers) as (url, asked):
        reranker = open_reranker(f"{url}/v1#bge", api_key="secret-key")
        found = reranker.score("what?", DOCUMENTS)
        np.testing.assert_allclose(found[:, 0], [worth(each) for each in DOCUMENTS], atol=1e-6)
        assert found[:, 1].all()
        assert {each["path"] for each in asked} == {"/v1/rerank"}
        assert all(each["key"] == "Bearer secret-key" for each in asked)
        assert all(len(each[key]) <= 32 for each in asked if key in each)
        assert (reranker.info.model, reranker.device) == (f"{url}/v1#bge", "remote")
        reranker.close()


@pytest.mark.parametrize(
    ("given", "there"), [("/v1", "/rerank"), ("", "/v1/rerank"), ("/models/b", "/models/b/rerank")]
)
def test_it_is_looked_for_where_servers_have_it(given: str, there: str) -> None:
    def answers(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return vllm(path, body) if path == there else (404, {"detail": "Not Found"})

    with serving(answers) as (url, asked):
        reranker = open_reranker(url + given)
        reranker.score("what?", ["a"])
        assert asked[-1]["path"] == there
        reranker.close()


def test_only_a_server_that_takes_instructions_is_sent_one() -> None:
    for answers, aware in ((sglang, True), (vllm, False), (tei, False)):
        with serving(answers) as (url, asked):
            reranker = open_reranker(url)
            reranker.score("what?", ["a"], "find the mill")
            assert reranker.info.instruction_aware is aware
            assert asked[-1].get("instruct") == ("find the mill" if aware else None)
            reranker.close()


def test_a_batch_that_is_too_large_is_asked_for_in_parts_and_kept_to() -> None:
    with serving(tei) as (url, asked):
        reranker = open_reranker(url)
        reranker.score("what?", DOCUMENTS)
        before = len(asked)
        reranker.score("what?", DOCUMENTS)
        assert [len(each["texts"]) for each in asked[before:]] == [8] * 5
        reranker.close()


def test_a_document_beyond_the_window_says_so() -> None:
    with serving(vllm) as (url, _):
        reranker = open_reranker(url, max_tokens=10)
        assert list(reranker.score("two words", ["w " * 8, "w " * 9])[:, 1]) == [1, 0]
        reranker.close()


@pytest.mark.parametrize(
    ("status", "answer", "error", "said"),
    [
        (400, {"error": "pair is bad"}, EncodingFailed, "pair is bad"),
        (503, {"error": "loading model"}, Unavailable, "loading model"),
        (200, {"results": []}, Unavailable, "expected a score for each of 2 documents"),
        (200, {"results": [{"index": 0, "relevance_score": 1}] * 2}, Unavailable, "expected a score for each of 2"),
        (200, {"results": [{"index": n, "relevance_score": None} for n in (0, 1)]}, Unavailable, "expected a score"),
        (200, "<html>", Unavailable, "check the address"),
    ],
)
def test_what_is_no_answer_is_the_servers_fault_and_a_refusal_the_pairs(
    status: int, answer: Any, error: type[Exception], said: str
) -> None:
    bad = threading.Event()

    def answers(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return (status, answer) if bad.is_set() else vllm(path, body)

    with serving(answers) as (url, _):
        reranker = open_reranker(url)
        bad.set()
        with pytest.raises(error, match=said):
            reranker.score("what?", ["a", "b"])
        reranker.close()


def test_a_server_that_does_not_rerank_is_refused_and_one_that_is_away_may_come() -> None:
    with (
        serving(lambda *_: (400, {"error": "this model embeds"})) as (url, _),
        pytest.raises(ModelUnavailable, match=r"expected a server with /rerank.*this model embeds"),
    ):
        open_reranker(url)
    with pytest.raises(Unavailable, match="cannot be reached"):
        open_reranker(url)
