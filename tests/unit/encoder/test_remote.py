"""The remote encoder against a real HTTP server that behaves well, badly, or not at all.

Whose fault an answer is shows in its type: `EncodingFailed` blames the texts, `Unavailable` the server.
"""

import base64
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Barrier
from typing import Any

import httpx
import numpy as np
import pytest

from embedding_server import SIZE, EmbeddingServer, embedding_server
from gristmill.settings import load_settings
from gristmill_schemas.errors import EncodingFailed, InvalidInput, ModelUnavailable, Unavailable
from gristmill_worker.batching.batcher import Batcher, encode_all
from gristmill_worker.batching.submission import Row, stacked
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.encoder.remote.api import Api
from gristmill_worker.encoder.remote.counting import estimate_tokens
from gristmill_worker.encoder.remote.encoder import MAX_TEXTS, RemoteEncoder
from gristmill_worker.pipeline.engine import load_encoder
from gristmill_worker.settings import WorkerSettings

TRUTH = HashEncoder(SIZE)


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


@pytest.fixture
def encoder(server: EmbeddingServer) -> Iterator[RemoteEncoder]:
    opened = open_encoder(f"{server.url}#BAAI/bge-m3", api_key="secret", budget_tokens=200)
    assert isinstance(opened, RemoteEncoder)
    server.requests.clear()
    yield opened
    opened.close()


def expected(texts: list[str]) -> Any:
    return TRUTH.encode(TRUTH.tokenize(texts))


def test_vectors_come_back_in_order_and_normalised(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    texts = [f"text number {number} " * (number % 7 + 1) for number in range(150)]
    np.testing.assert_allclose(encode_all(encoder, encoder.tokenize(texts)), expected(texts), atol=1e-6)
    assert len(server.requests) > 4
    for body in server.requests:
        costs = [estimate_tokens(text) for text in body["input"]]
        assert len(costs) <= MAX_TEXTS
        assert len(costs) == 1 or sum(costs) <= 200
        asked = {name: value for name, value in body.items() if name != "input"}
        assert asked == {"model": "BAAI/bge-m3", "encoding_format": "base64"}, "no dimensions: they are cut here"
    assert server.keys == {"Bearer secret"}


def test_a_launch_is_one_request(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    texts = [f"text number {number} " * 20 for number in range(40)]
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(texts)), expected(texts), atol=1e-6)
    assert [len(body["input"]) for body in server.requests] == [40]


def test_servers_that_only_know_numbers_work_too(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    server.as_numbers = True
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(["a", "b"])), expected(["a", "b"]), atol=1e-6)


STATUSES = [
    (429, "429"), (503, "503"), (500, "500"), (502, "502"), (408, "408"),
    (401, "check the key"), (403, "check the key"), (404, "check the address"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "words"), STATUSES)
def test_a_status_that_blames_no_text_is_the_servers_fault(
    encoder: RemoteEncoder, server: EmbeddingServer, status: int, words: str
) -> None:
    server.faults = [(status, {})]
    with pytest.raises(Unavailable, match=words):
        encoder.encode(encoder.tokenize(["a"]))
    assert len(server.requests) == 1, "waiting and asking again is for whoever has the work"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_server_that_has_moved_is_named(encoder: RemoteEncoder, server: EmbeddingServer, status: int) -> None:
    server.faults = [(status, {"Location": "http://elsewhere.example/v1/embeddings"})]
    with pytest.raises(Unavailable, match=r"use http://elsewhere\.example/v1/embeddings"):
        encoder.encode(encoder.tokenize(["a"]))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_status_that_blames_the_text_is_the_texts_fault(
    encoder: RemoteEncoder, server: EmbeddingServer, status: int
) -> None:
    server.faults = [(status, {})]
    with pytest.raises(EncodingFailed, match=str(status)):
        encoder.encode(encoder.tokenize(["a"]))


@pytest.mark.parametrize(
    ("status", "words", "refused"),
    [
        (413, "batch size 24 > maximum allowed batch size 5", 1),
        (422, "batch size 24 > maximum allowed batch size 5", 1),
        (400, "Invalid 'input': array too long. Expected an array with maximum length 5.", 3),
        (400, "at most 5 texts per request", 1),
        (400, "too many inputs", 3),
    ],
)
def test_the_largest_batch_that_a_server_takes_is_learned(
    encoder: RemoteEncoder, server: EmbeddingServer, status: int, words: str, refused: int
) -> None:
    server.most, server.too_many, server.too_many_status = 5, words, status
    texts = [f"text number {number}" for number in range(24)]
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(texts)), expected(texts), atol=1e-6)
    assert sum(len(request["input"]) > 5 for request in server.requests) <= refused
    assert encoder.limits.texts is not None
    assert encoder.limits.texts <= 5
    server.requests.clear()
    encoder.encode(encoder.tokenize(texts))
    assert max(len(request["input"]) for request in server.requests) <= 5


def test_a_server_that_refuses_base64_is_asked_for_numbers(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    server.as_numbers = server.strict = True
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(["a", "b"])), expected(["a", "b"]), atol=1e-6)


def test_a_text_that_is_too_long_is_no_batch_that_is_too_large(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    server.most, server.too_many = 1, "input too long: maximum context length is 512 tokens"
    with pytest.raises(EncodingFailed, match="input too long"):
        encoder.encode(encoder.tokenize(["a", "b"]))
    assert len(server.requests) == 1
    assert encoder.limits.texts == MAX_TEXTS


@pytest.mark.parametrize("value", ["7", " 7 ", "7 seconds", "", "-3", "tomorrow"])
def test_retry_after_is_taken_as_seconds_where_it_says_seconds(
    encoder: RemoteEncoder, server: EmbeddingServer, value: str
) -> None:
    server.faults = [(503, {"Retry-After": value})]
    with pytest.raises(Unavailable) as caught:
        encoder.encode(encoder.tokenize(["a"]))
    assert caught.value.retry_after_s == (7 if value.strip() == "7" else None)


def test_retry_after_may_be_a_date(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    now = datetime.now(UTC)
    for offset_s, least, most in ((3600, 3000, 3600), (-30, 0, 0)):
        server.faults = [(429, {"Retry-After": format_datetime(now + timedelta(seconds=offset_s), usegmt=True)})]
        with pytest.raises(Unavailable) as caught:
            encoder.encode(encoder.tokenize(["a"]))
        assert caught.value.retry_after_s is not None
        assert least <= caught.value.retry_after_s <= most


def change(field: str, value: Any) -> Callable[[list[dict[str, Any]]], object]:
    return lambda data: {"data": [{**data[0], field: value}, *data[1:]]}


def without(field: str) -> Callable[[list[dict[str, Any]]], object]:
    return lambda data: {"data": [{name: item for name, item in each.items() if name != field} for each in data]}


#: For two texts, whose records come in the order 1, 0.
NONSENSE: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "a proxy's page": lambda data: "<html><body>Please sign in</body></html>",
    "an empty body": lambda data: "",
    "another shape": lambda data: [1, 2, 3],
    "no data": lambda data: {"data": []},
    "a short batch": lambda data: {"data": data[1:]},
    "a long batch": lambda data: {"data": [*data, {**data[0], "index": 2}]},
    "an index twice": change("index", 0),
    "an index beyond": change("index", 7),
    "an index that is none": change("index", "1"),
    "a missing index": without("index"),
    "a missing embedding": without("embedding"),
    "NaN": change("embedding", base64.b64encode(np.full(SIZE, np.nan, "<f4").tobytes()).decode()),
    "infinity": change("embedding", [1e300] * SIZE),
    "an integer beyond all floats": change("embedding", [10**400] * SIZE),
    "half a float": change("embedding", base64.b64encode(b"123").decode()),
    "no base64": change("embedding", "not base64!"),
    "sizes that differ": change("embedding", [1.0]),
    "a vector in a vector": change("embedding", [[1.0] * SIZE]),
    "empty vectors": lambda data: {"data": [{**each, "embedding": ""} for each in data]},
    "vectors of another size": lambda data: {"data": [{**each, "embedding": [1.0] * (SIZE - 1)} for each in data]},
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_an_answer_that_is_none_is_the_servers_fault(
    encoder: RemoteEncoder, server: EmbeddingServer, kind: str
) -> None:
    server.spoil = NONSENSE[kind]
    with pytest.raises(Unavailable, match="check"):
        encoder.encode(encoder.tokenize(["a", "b"]))


def test_large_vectors_are_normalised_all_the_same(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    server.spoil = lambda data: {"data": [{**each, "embedding": [3e38] * SIZE} for each in data]}
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(["a"])), np.full((1, SIZE), SIZE**-0.5), atol=1e-6)


def test_an_empty_batch_asks_nothing(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    assert encoder.encode([]).shape == (0, SIZE)
    assert not server.requests


def test_the_only_model_of_a_server_needs_no_name(server: EmbeddingServer) -> None:
    encoder = open_encoder(server.url)
    assert (encoder.info.model, encoder.info.dimensions) == (f"{server.url}#BAAI/bge-m3", SIZE)
    assert encoder.device == "remote"
    encoder.close()


def test_one_of_several_models_must_be_named(server: EmbeddingServer) -> None:
    server.models = ["a", "b"]
    with pytest.raises(InvalidInput, match="say which"):
        open_encoder(server.url)


def test_a_model_that_cannot_encode_a_word_is_not_available(server: EmbeddingServer) -> None:
    server.faults = [(400, {})]
    with pytest.raises(ModelUnavailable, match="check the model's name"):
        open_encoder(f"{server.url}#BAAI/bge-m3")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1#BAAI/bge-m3"])
def test_a_server_that_is_not_there_is_away(url: str) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1.*cannot be reached"):
        open_encoder(url)


def test_nothing_of_httpx_escapes(encoder: RemoteEncoder) -> None:
    gone = RemoteEncoder(Api(httpx.Client(base_url="http://127.0.0.1:1/v1/"), "BAAI/bge-m3"), encoder.info)
    with pytest.raises(Unavailable, match="cannot be reached"):
        gone.encode(gone.tokenize(["a"]))
    gone.close()


def test_a_server_that_never_answers_is_away(encoder: RemoteEncoder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = httpx.Client(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/", timeout=0.2)
        asking = RemoteEncoder(Api(client, "BAAI/bge-m3"), encoder.info)
        with pytest.raises(Unavailable, match="cannot be reached"):
            asking.encode(asking.tokenize(["a"]))
        asking.close()


@pytest.fixture
def batcher(encoder: RemoteEncoder, server: EmbeddingServer) -> Iterator[Batcher]:
    opened = Batcher(encoder)
    server.requests.clear()
    yield opened
    opened.close()


def rows_of(batcher: Batcher, encoder: RemoteEncoder, *texts: str) -> list[Row]:
    return batcher.submit(encoder.tokenize(texts)).result(timeout=30)


def test_a_text_that_the_server_refuses_fails_alone(
    encoder: RemoteEncoder, batcher: Batcher, server: EmbeddingServer
) -> None:
    server.refused = "poison"
    texts = [f"text {number}" for number in range(12)] + ["poison"] + [f"more {number}" for number in range(12)]
    rows = rows_of(batcher, encoder, *texts)
    assert [text for text, row in zip(texts, rows, strict=True) if isinstance(row, EncodingFailed)] == ["poison"]
    assert not any(isinstance(row, Unavailable) for row in rows)


def test_a_server_that_refuses_everything_is_waited_for(
    encoder: RemoteEncoder, batcher: Batcher, server: EmbeddingServer
) -> None:
    server.refused = ""
    rows = rows_of(batcher, encoder, "a", "b", "c")
    assert all(isinstance(row, Unavailable) and "refuses everything" in str(row) for row in rows)
    server.refused = None
    np.testing.assert_allclose(stacked(rows_of(batcher, encoder, "a", "b"), SIZE), expected(["a", "b"]), atol=1e-6)


@pytest.mark.parametrize("status", [429, 503, 401, 404, 308])
def test_a_server_that_is_away_costs_one_request_and_no_text(
    encoder: RemoteEncoder, batcher: Batcher, server: EmbeddingServer, status: int
) -> None:
    server.faults = [(status, {})] * 100
    rows = rows_of(batcher, encoder, "a", "b", "c", "d")
    assert all(isinstance(row, Unavailable) for row in rows)
    assert len(server.requests) == 1


def test_several_requests_are_under_way_at_once(
    encoder: RemoteEncoder, batcher: Batcher, server: EmbeddingServer
) -> None:
    server.together = Barrier(3)  # six requests of one text each
    texts = [f"text number {number} " * 50 for number in range(6)]
    np.testing.assert_allclose(stacked(rows_of(batcher, encoder, *texts), SIZE), expected(texts), atol=1e-6)


def settings_for(server: EmbeddingServer, **more: Any) -> WorkerSettings:
    return load_settings(WorkerSettings, model=f"{server.url}#BAAI/bge-m3", **more)


@pytest.mark.parametrize("window", [64, 512, 6_000])
def test_a_server_that_cuts_silently_is_found_out_at_the_start(
    server: EmbeddingServer, window: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.truth = HashEncoder(SIZE, max_tokens=window)
    with closing(open_encoder(server.url)) as encoder:
        short, long = encoder.tokenize(["mill " * (window // 2), "mill " * (window * 2)])
        assert (short.truncated, long.truncated) == (False, True)
        text = "A mill grinds what many people bring. " * window
        spans = encoder.chunk(text, 8_192, 0)
        assert not any(each.truncated for each in encoder.tokenize([text[start:end] for start, end in spans]))
    assert "passes over the rest without a word" in caplog.text


def test_a_server_that_refuses_what_is_too_long_is_believed(
    server: EmbeddingServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused = "river river river"
    with closing(open_encoder(server.url)) as encoder:
        assert not encoder.tokenize(["mill " * 20_000])[0].truncated
    assert "without a word" not in caplog.text


def test_a_server_that_gives_all_texts_one_vector_is_not_used(server: EmbeddingServer) -> None:
    server.spoil = lambda data: {"data": [{**each, "embedding": [1.0] * SIZE} for each in data]}
    with pytest.raises(Unavailable, match="different texts one vector"):
        open_encoder(server.url)


def test_a_start_waits_for_a_server_that_is_away(server: EmbeddingServer) -> None:
    server.faults = [(503, {"Retry-After": "0"})] * 3
    encoder = load_encoder(settings_for(server))
    assert (encoder.info.model, len(server.requests)) == (f"{server.url}#BAAI/bge-m3", 5)
    encoder.close()


def test_a_start_waits_no_longer_than_the_setting_says_and_says_why(server: EmbeddingServer) -> None:
    server.faults = [(503, {"Retry-After": "30"})] * 3
    with pytest.raises(Unavailable, match="503"):
        load_encoder(settings_for(server, remote_wait_s=0.5))
    assert len(server.requests) == 1
