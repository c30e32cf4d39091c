"""Who is let in, how much, how fast; and what becomes of requests when their client, or the server, goes."""

import json
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.server import protocol
from gristmill_worker.server.keys import Keys
from gristmill_worker.server.running import HttpServer
from gristmill_worker.server.service import Phase, Service
from gristmill_worker.settings import ServerSettings
from serving import Held, Serving, served
from waiting import eventually

ONE = {"model": "hash:8", "input": "a"}


@pytest.fixture
def held() -> Iterator[Held]:
    encoder = Held()
    yield encoder
    encoder.door.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("# the shop\nsk-shop-0123456789\n\nsk-ana-0123456789  # until March\n", encoding="utf-8")
    file.chmod(0o600)
    return file


def raw_request(serving: Serving, body: Any, *, size: int | None = None) -> socket.socket:
    """A connection on which a request was sent, or only its beginning, where `size` says that more is to come."""
    content = json.dumps(body).encode()
    host, port = serving.server.address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"content-type: application/json\r\ncontent-length: {size or len(content)}\r\n\r\n"
    connection.sendall(f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\n{head}".encode() + content)
    return connection


def test_only_a_key_of_the_file_lets_in(key_file: Path) -> None:
    with served([Held(closed=False)], serve_api_keys=str(key_file)) as serving:
        for key in ("sk-shop-0123456789", "sk-ana-0123456789"):
            with openai.OpenAI(base_url=serving.base_url, api_key=key, max_retries=0) as client:
                assert client.embeddings.create(model="hash:8", input="a").data
        for key in ("sk-other-0123456789", "sk-shop-012345678", "#", "until"):
            with openai.OpenAI(base_url=serving.base_url, api_key=key, max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError) as refused:
                    client.embeddings.create(model="hash:8", input="a")
                assert refused.value.code == "invalid_api_key"
                assert key not in str(refused.value) or len(key) < 8
        for headers in ({}, {"authorization": "Basic c2st"}, {"authorization": "sk-shop-0123456789"}):
            answer = serving.http.post("/v2/embed", json={"model": "hash:8", "texts": ["a"]}, headers=headers)
            assert (answer.status_code, set(answer.json())) == (401, {"message"})
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
            assert serving.http.get(path).status_code == 200
        assert serving.http.get("/v1/models").status_code == 401


def test_a_changed_file_of_keys_is_read_again(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(key_file)
    key_file.write_text("sk-new-0123456789-longer\n", encoding="utf-8")
    assert (keys.let_in("sk-new-0123456789-longer"), keys.let_in("sk-shop-0123456789")) == (True, False)
    with caplog.at_level(logging.ERROR):
        key_file.write_text("two words are no key\n", encoding="utf-8")
        assert keys.let_in("sk-new-0123456789-longer")
        key_file.unlink()
        assert keys.let_in("sk-new-0123456789-longer")
    assert "line 1" in caplog.text
    key_file.write_text("# nobody\n", encoding="utf-8")
    assert not keys.let_in("sk-new-0123456789-longer")


def test_a_file_of_keys_that_others_may_read_is_warned_about(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    Keys(key_file)
    assert not caplog.text
    key_file.chmod(0o644)
    Keys(key_file)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("content", [b"", b"# none\n", b"two words\n", b"\xff\xfe\0", b'"quoted-key"\n'])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(InvalidInput, match="api_keys: "):
        Keys(tmp_path / "keys")
    with pytest.raises(InvalidInput, match="api_keys: "):
        Keys(tmp_path / "absent")


def test_a_requests_own_id_comes_back_and_else_it_gets_one(serving: Serving) -> None:
    assert serving.http.get("/info", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = {
        serving.http.get("/healthz", headers={"x-request-id": each}).headers["x-request-id"] for each in ("", "a b")
    }
    assert len(made) == 2
    assert serving.embed(model="nope", input="a").headers["x-request-id"]


def test_a_body_over_the_limit_is_refused_declared_or_not() -> None:
    with served([Held(closed=False)], serve_max_body_bytes=2048) as serving:
        big = json.dumps({"model": "hash:8", "input": "a " * 2000}).encode()
        for content in (big, iter([big[:1500], big[1500:]])):
            answer = serving.http.post("/v1/embeddings", content=content, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert serving.embed(**ONE).status_code == 200


def test_a_body_that_does_not_come_is_given_up() -> None:
    with served([Held(closed=False)], serve_read_timeout_s=0.1) as serving:
        with raw_request(serving, ONE, size=1000) as slow:
            assert b" 408 " in slow.recv(4096)
        # An answer is read a moment before its request counts as done.
        eventually(lambda: serving.service.requests == 0)


def test_a_head_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.05)
    with served([Held(closed=False)]) as serving:
        host, port = serving.server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            slow.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-slow: ")
            assert slow.recv(100) == b""


def test_what_waits_is_bounded_and_who_comes_too_many_hears_when_to_come_again(
    held: Held, pool: ThreadPoolExecutor
) -> None:
    with served([held], serve_queue_texts=4) as serving:
        first = pool.submit(serving.embed, model="hash:8", input=["a", "b", "c"])
        assert held.at_door.wait(60)
        refused = serving.embed(model="hash:8", input=["d", "e"])
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(refused.headers["retry-after"]) >= 1
        held.door.set()
        assert first.result(60).status_code == 200
        assert serving.embed(model="hash:8", input=["a"] * 10).status_code == 200  # nothing waits any more


def test_requests_at_once_are_bounded(held: Held, pool: ThreadPoolExecutor) -> None:
    with served([held], serve_max_requests=1) as serving:
        first = pool.submit(serving.embed, **ONE)
        assert held.at_door.wait(60)
        refused = serving.embed(**ONE)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        held.door.set()
        assert first.result(60).status_code == 200


def test_many_small_requests_share_their_launches(held: Held, pool: ThreadPoolExecutor) -> None:
    with served([held]) as serving:
        requests = [pool.submit(serving.embed, **ONE)]
        assert held.at_door.wait(60)
        requests += [pool.submit(serving.embed, model="hash:8", input=f"text {n}") for n in range(30)]
        eventually(lambda: serving.service.texts == 31)
        batcher = serving.service.encoder("hash:8").batcher
        eventually(lambda: batcher.queued_texts == 30)
        held.door.set()
        assert {each.result(60).status_code for each in requests} == {200}
    assert [len(batch) for batch in held.batches] == [1, 30]


def test_a_text_that_cannot_be_encoded_fails_its_own_request_only(held: Held, pool: ThreadPoolExecutor) -> None:
    with served([held]) as serving:
        first = pool.submit(serving.embed, **ONE)
        assert held.at_door.wait(60)
        bad = pool.submit(serving.embed, model="hash:8", input=["fine", "poison"])
        good = pool.submit(serving.embed, model="hash:8", input=["good", "better"])
        batcher = serving.service.encoder("hash:8").batcher
        eventually(lambda: batcher.queued_texts == 4)
        held.door.set()
        assert (first.result(60).status_code, good.result(60).status_code) == (200, 200)
        error = bad.result(60).json()["error"]
    assert (error["param"], error["type"]) == ("input[1]", "invalid_request_error")


def test_what_waits_for_a_client_that_hung_up_is_dropped(held: Held, pool: ThreadPoolExecutor) -> None:
    with served([held]) as serving:
        first = pool.submit(serving.embed, **ONE)
        assert held.at_door.wait(60)
        batcher = serving.service.encoder("hash:8").batcher
        for place, text in enumerate(("short", "long " * 400)):  # of either lane
            with raw_request(serving, {"model": "hash:8", "input": [text, f"{text}!"]}):
                eventually(lambda so_far=place: batcher.queued_texts == 2 * so_far + 2)  # type: ignore[misc]
        eventually(lambda: serving.service.requests == 1)
        held.door.set()
        assert first.result(60).status_code == 200
        assert serving.embed(model="hash:8", input="last").status_code == 200
    assert held.batches == [["a"], ["last"]]


def test_a_stop_finishes_what_runs_and_refuses_what_is_new(held: Held, pool: ThreadPoolExecutor) -> None:
    with served([held]) as serving:
        running = pool.submit(serving.embed, **ONE)
        assert held.at_door.wait(60)
        serving.server.stop()
        eventually(lambda: serving.service.phase is Phase.STOPPING)
        late = serving.embed(**ONE)
        assert (late.status_code, late.headers["connection"]) == (503, "close")
        assert "retry-after" in late.headers
        assert serving.http.get("/readyz").status_code == 503
        assert serving.http.get("/healthz").status_code == 200
        held.door.set()
        assert running.result(60).status_code == 200
        eventually(lambda: not serving.alive)


def test_a_stop_does_not_wait_longer_than_it_may(held: Held, pool: ThreadPoolExecutor) -> None:
    with served([held], drain_timeout_s=0.1) as serving:
        serving.server._server.config.timeout_graceful_shutdown = 60
        running = pool.submit(serving.embed, **ONE)
        assert held.at_door.wait(60)
        serving.server.stop()
        assert running.result(60).status_code == 503
        eventually(lambda: not serving.alive)
        held.door.set()


def test_who_asks_twice_waits_for_nothing(held: Held, pool: ThreadPoolExecutor) -> None:
    with served([held], drain_timeout_s=300) as serving:
        serving.server._server.config.timeout_graceful_shutdown = 60
        running = pool.submit(serving.embed, **ONE)
        assert held.at_door.wait(60)
        serving.server.stop()
        eventually(lambda: serving.service.phase is Phase.STOPPING)
        serving.server.hurry()
        assert running.result(60).status_code == 503
        eventually(lambda: not serving.alive)
        held.door.set()


def test_processes_share_a_port_and_one_that_stops_leaves_it_to_the_others() -> None:
    first, second = Held(closed=False), Held(closed=False)

    def ask(times: int) -> None:
        for _ in range(times):  # a connection each
            assert httpx.post(f"{one.base_url}/embeddings", json=ONE, timeout=60).status_code == 200

    with served([first], share=True) as one:
        with served([second], share=True, port=urlsplit(one.server.address).port or 0):
            ask(40)
            assert len(first.batches) + len(second.batches) == 40
            assert 0 < len(first.batches) < 40, "the kernel gives connections to both"
        before = len(second.batches)
        ask(10)
        assert len(second.batches) == before


def test_while_models_load_probes_are_answered_and_requests_asked_to_wait() -> None:
    with served([Held(closed=False)], phase=Phase.LOADING) as serving:
        assert serving.http.get("/healthz").status_code == 200
        assert serving.http.get("/readyz").status_code == 503
        waiting = serving.embed(**ONE)
        assert (waiting.status_code, waiting.json()["error"]["type"]) == (503, "service_unavailable_error")
        assert int(waiting.headers["retry-after"]) >= 1


def test_a_sick_device_shows_in_every_probe() -> None:
    with served([Held(closed=False)]) as serving:
        serving.service.encoder("hash:8").batcher.sick = "it is on fire"
        for path in ("/healthz", "/readyz"):
            assert serving.http.get(path).status_code == 503
        assert serving.embed(**ONE).status_code == 503


def test_what_is_not_there_is_answered_in_the_same_shape(serving: Serving) -> None:
    for method, path, status in (("GET", "/nix", 404), ("GET", "/v1/embeddings", 405), ("POST", "/v1/models", 405)):
        answer = serving.http.request(method, path, json={})
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
    form = serving.http.post("/v1/embeddings", data={"model": "hash:16"})
    assert form.status_code == 415


def test_the_figures_tell_waiting_from_encoding(held: Held) -> None:
    held.door.set()
    with served([held]) as serving:
        serving.embed(model="hash:8", input=["a b", "c"])
        serving.embed(model="nope", input="a")
        serving.http.get("/v1/nix/../passwd")
        # An answer is read a moment before its request counts as done.
        eventually(lambda: "gristmill_requests_in_flight 0.0" in serving.http.get("/metrics").text)
        figures = serving.http.get("/metrics").text
    for line in (
        'gristmill_requests_total{path="/v1/embeddings",status="200"} 1.0',
        'gristmill_requests_total{path="/v1/embeddings",status="404"} 1.0',
        'gristmill_requests_total{path="other",status="404"} 1.0',
        'gristmill_texts_total{lane="http",model="hash:8"} 2.0',
        'gristmill_tokens_total{lane="http",model="hash:8"} 3.0',
        'gristmill_queue_wait_seconds_count{lane="http",model="hash:8"} 1.0',
        'gristmill_encode_seconds_count{lane="http",model="hash:8"} 1.0',
        "gristmill_texts_waiting 0.0",
    ):
        assert line in figures


def test_the_page_of_routes_needs_no_network_and_names_every_field(serving: Serving) -> None:
    page = serving.http.get("/docs").text
    whole: dict[str, Any] = serving.http.get("/openapi.json").json()
    assert {"/v1/embeddings", "/v2/embed", "/v1/rerank", "/tokenize", "/info", "/readyz"} <= set(whole["paths"])
    assert "https://" not in page
    assert "src=" not in page
    for field in ("input", "dimensions", "encoding_format", "instruction", "output_dimension", "top_n"):
        assert f"<code>{field}</code>" in page
    assert "422" not in whole["paths"]["/v1/embeddings"]["post"]["responses"]


def test_an_address_that_is_taken_is_refused(serving: Serving) -> None:
    port = int(serving.server.address.rpartition(":")[2])
    service = Service(ServerSettings(serve_port=port))
    with pytest.raises(InvalidInput, match="port: expected an address that is free"):
        HttpServer(service)
