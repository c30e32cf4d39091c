"""What answers at Qdrant's address, over gRPC and over REST, and what it is called: an error of ours, on one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from email.utils import formatdate
from time import time
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from gristmill.settings import ClientSettings, load_settings
from gristmill.store.connection import open_store, require_server, store_errors
from gristmill.store.points import look_up
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import CollectionNotFound, GristmillError, RequestTooLarge, StoreRefused, StoreUnavailable
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import free_port
from services.model_server import Answer
from services.proxy import Proxy

SPEC = CollectionSpec(name="c", space=HashEncoder(4).info.space())
PAGE = b"<html>\n<head><title>404 Not Found</title></head>\n<body>nginx</body></html>"
Ask = Callable[[Answer], GristmillError]


def own(error: str, status: int, headers: Mapping[str, str] | None = None) -> Answer:
    """An error in Qdrant's own words."""
    return Answer(status, json.dumps({"status": {"error": error}, "time": 0.1}).encode(), headers=headers or {})


def page(status: int, content: bytes = PAGE, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of something else."""
    return Answer(status, content, "text/html", headers or {})


def store_at(proxy: Proxy, **settings: Any) -> QdrantClient:
    return open_store(load_settings(ClientSettings, qdrant_url=proxy.url, qdrant_timeout_s=60, **settings))


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """What becomes of an answer to a question about the collection `c`, over REST."""
    with Proxy() as proxy, closing(store_at(proxy, qdrant_prefer_grpc=False)) as store:

        def call(answer: Answer) -> GristmillError:
            proxy.fault = lambda method, path: answer
            with pytest.raises(GristmillError) as caught:
                look_up(store, SPEC, ["6f0b8a2e-0000-4000-8000-000000000000"])
            return caught.value

        yield call


def test_only_qdrant_itself_says_that_a_collection_is_not_there(ask: Ask) -> None:
    error = ask(own("Not found: Collection `c` doesn't exist!", 404))
    assert isinstance(error, CollectionNotFound)
    assert error.collection == "c"


@pytest.mark.parametrize(
    "answer",
    [
        page(404),
        page(404, b""),
        page(404, b'{"detail": "Not Found"}'),
        page(404, b"404 page not found"),
        page(404, b'{"status": "error", "message": "Collection c not found"}'),
        page(301, headers={"Location": "https://elsewhere/"}),
        page(400),
        page(405),
        page(410),
        page(200),
        page(200, b"{}"),
        page(200, b"null"),
        page(200, b'{"result": null, "status": "ok", "time": 0}'),
        page(200, b'{"result": "pong"}'),
    ],
    ids=lambda answer: f"{answer.status} {answer.content.decode()[:12]!r}",
)
def test_what_a_proxy_or_another_server_says_is_waited_out_and_says_nothing_about_collections(
    ask: Ask, answer: Answer
) -> None:
    error = ask(answer)
    assert isinstance(error, StoreUnavailable)
    assert "GRISTMILL_QDRANT_URL" in str(error)
    assert "<" not in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("status", [401, 403, 407, 429, 500, 502, 503, 504, 520])
def test_a_page_instead_of_an_answer_is_waited_out(ask: Ask, status: int) -> None:
    assert isinstance(ask(page(status)), StoreUnavailable)


@pytest.mark.parametrize(
    ("said", "suspect"),
    [
        (
            "Service internal error: Failed to apply update with Strong ordering via leader peer 7: Connection refused",
            False,
        ),
        ("Service internal error: The replica set for shard 0 on peer 7 does not have enough active replicas", False),
        ("Service internal error: The replica set for shard 0 on peer 7 has no active replica", False),
        ("Service internal error: 1 of 2 read operations failed:\n  timeout", False),
        ("Service internal error: index out of bounds", True),
    ],
)
def test_no_request_is_suspected_where_nodes_of_the_cluster_are_away(ask: Ask, said: str, suspect: bool) -> None:
    error = ask(own(said, 500))
    assert isinstance(error, StoreUnavailable)
    assert error.may_be_the_request is suspect


def test_a_missing_key_is_called_by_its_setting(ask: Ask) -> None:
    assert "GRISTMILL_QDRANT_API_KEY" in str(ask(page(401, b"Must provide an API key")))


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_not_do_this_is_called_by_its_setting_and_no_server_is_to_be_started(
    ask: Ask, status: int
) -> None:
    error = ask(own("Forbidden: Global access is required", status))
    assert isinstance(error, StoreUnavailable)
    assert "Set GRISTMILL_QDRANT_API_KEY to a key or token that may do this" in str(error)
    assert "Start one" not in str(error)


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        (own("Rate limiting exceeded", 429, headers={"Retry-After": "36"}), 36),
        (page(429, headers={"Retry-After": "7"}), 7),
        (page(503, headers={"Retry-After": "9"}), 9),
        (page(503, headers={"Retry-After": "soon"}), None),
        (page(503), None),
    ],
)
def test_a_limit_says_when_to_come_back(ask: Ask, answer: Answer, wait_s: float | None) -> None:
    error = ask(answer)
    assert isinstance(error, StoreUnavailable)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize("status", [429, 503])
def test_a_date_to_come_back_at_is_understood_or_left_out(ask: Ask, status: int) -> None:
    error = ask(page(status, headers={"Retry-After": formatdate(time() + 100, usegmt=True)}))
    assert isinstance(error, StoreUnavailable)
    assert error.retry_after_s is None or 90 < error.retry_after_s <= 101


@pytest.mark.parametrize(
    "answer",
    [
        page(413, b"<html><title>413 Request Entity Too Large</title></html>"),
        page(413, b""),
        own("Payload error: JSON payload (40000013 bytes) is larger than allowed (limit: 33554432 bytes).", 400),
    ],
)
def test_too_much_at_once_is_told_from_what_is_refused(ask: Ask, answer: Answer) -> None:
    assert isinstance(ask(answer), RequestTooLarge)


def test_more_points_than_a_rate_limit_ever_allows_are_refused_so_that_they_are_halved(ask: Ask) -> None:
    said = "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter capacity, please split"
    assert isinstance(ask(own(said, 429)), StoreRefused)


def test_what_qdrant_refuses_is_refused_in_its_words(ask: Ask) -> None:
    error = ask(own("Wrong input: Not existing vector name error: x", 400))
    assert type(error) is StoreRefused
    assert "Not existing vector name" in str(error)


@pytest.mark.parametrize("prefer_grpc", [True, False])
def test_an_address_where_nobody_listens_is_said_with_the_way_out(prefer_grpc: bool) -> None:
    settings = load_settings(
        ClientSettings,
        qdrant_url=f"http://127.0.0.1:{free_port()}",
        qdrant_grpc_port=free_port(),
        qdrant_prefer_grpc=prefer_grpc,
        qdrant_timeout_s=2,
    )
    with (
        closing(open_store(settings)) as store,
        pytest.raises(StoreUnavailable, match="GRISTMILL_QDRANT_URL") as caught,
    ):
        require_server(store)
    assert ("GRISTMILL_QDRANT_PREFER_GRPC=false" in str(caught.value)) == prefer_grpc


def test_a_grpc_port_that_leads_elsewhere_costs_nothing_and_is_named() -> None:
    """A proxy that speaks HTTP only; by gRPC's own rules its 404 becomes UNIMPLEMENTED."""
    with (
        Proxy(fault=lambda method, path: page(404)) as proxy,
        closing(store_at(proxy, qdrant_grpc_port=proxy.port)) as store,
        pytest.raises(StoreUnavailable, match=r"GRISTMILL_QDRANT_GRPC_PORT.*GRISTMILL_QDRANT_PREFER_GRPC=false"),
        store_errors("c"),
    ):
        store.upsert("c", [models.PointStruct(id=1, vector=[1.0])])


def test_a_server_that_answers_over_rest_alone_is_told_from_one_that_is_away() -> None:
    root = Answer(200, b'{"title": "qdrant - vector search engine", "version": "1.16.3"}')
    with (
        Proxy(fault=lambda method, path: root) as proxy,
        closing(store_at(proxy, qdrant_grpc_port=free_port())) as store,
        pytest.raises(StoreUnavailable, match=r"Qdrant 1\.16\.3 answers at .*PREFER_GRPC=false"),
    ):
        require_server(store)
