"""Whatever is passed to a public call, and whatever answers it: the error, if there is one, is one of ours."""

import contextlib
import functools
import inspect
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from qdrant_client import models

from gristmill import Client, Document, GristmillError, InvalidInput
from gristmill_worker.encoder.hash_encoder import HashEncoder
from places import PLACES, place_of
from services import QdrantServer
from services.process import free_port

C = "no-foreign-errors"
#: Arguments that are right, for every public call.
RIGHT: dict[str, dict[str, Any]] = {
    "create_collection": {"name": f"{C}-made", "wait_s": 0},
    "enqueue": {"collection": C, "documents": Document(id="b", text="t")},
    "estimate": {"collection": C, "documents": Document(id="b", text="t")},
    "update_metadata": {"collection": C, "ids": "a", "changes": {"k": 1}},
    "delete": {"collection": C, "ids": "b"},
    "delete_where": {"collection": C, "where": {"k": 99}},
    "get": {"collection": C, "ids": "a"},
    "count": {"collection": C},
    "scroll": {"collection": C},
    "documents": {"collection": C},
    "facets": {"collection": C, "field": "k"},
    "queue": {},
    "cluster": {"collection": C, "k": 1},
    "search": {"collection": C, "query": "q"},
    "search_many": {"collection": C, "queries": ["q"]},
    "search_by_vector": {"collection": C, "vector": [1.0] * 16},
    "similar": {"collection": C, "document_id": "a"},
    "recommend": {"collection": C, "positive": ["a"]},
    "embed": {"texts": ["t"]},
    "rerank": {"query": "q", "documents": ["t"]},
    "query_cache_info": {},
    "receipt": {"collection": C, "document_id": "a"},
    "tenant": {"name": "acme"},
    "erase_tenant": {"collection": C, "tenant": "acme", "wait_s": 0},
    "confirm_erased": {"collection": C, "tenant": "acme"},
    "audit": {"collection": C},
    "collections.list": {},
    "collections.get": {"name": C},
    "collections.count": {"name": C},
    "collections.delete": {"name": "absent"},
    "collections.index_status": {"name": C},
    "collections.wait_for_index": {"name": C, "timeout_s": 10},
    "indexes.create": {"collection": C, "indexes": {"lang": "keyword"}},
    "indexes.list": {"collection": C},
    "indexes.get": {"collection": C, "field": "lang"},
    "indexes.drop": {"collection": C, "fields": "lang"},
    "instructions.register": {"collection": C, "name": "faq", "text": "Find the answer"},
    "instructions.list": {"collection": C},
    "instructions.show": {"collection": C, "name": "faq"},
    "instructions.get": {"collection": C, "name": "faq@1"},
    "instructions.retire": {"collection": C, "name": "faq"},
    "instructions.presets": {},
    "dead.list": {},
    "dead.scroll": {},
    "dead.get": {"letter_id": "absent"},
    "dead.replay": {"letter_ids": ["absent"]},
    "dead.drop": {"letter_ids": ["absent"]},
    "dead.summary": {},
    "jobs.list": {},
    "jobs.get": {"job_id": "absent"},
    "models.list": {},
    "models.get": {"name": "hash:16"},
    "models.served": {"model": "hash:16", "wait_s": 0},
    "models.reranker": {"name": "overlap:64"},
    "tenants.list": {},
    "tenants.get": {"tenant": "acme"},
    "tenants.limit": {"tenant": "limited", "documents": 5},
    "tenants.unlimit": {"tenant": "limited"},
    "webhooks.list": {},
    "webhooks.get": {"webhook_id": "absent"},
    "webhooks.resend": {},
    "webhooks.drop": {"webhook_ids": "absent"},
    "refused.list": {},
    "refused.get": {"message_id": "absent"},
    "refused.drop": {},
    "refused.unreadable": {},
    "job.report": {},
    "job.ahead": {},
    "job.wait": {"timeout_s": 0},
    "job.pause": {},
    "job.resume": {},
    "job.cancel": {},
    "bulk": {"collection": C},
    "finish_bulk": {"collection": C, "force": True},
    # The last one, since an index that is put off is waited for.
    "begin_bulk": {"collection": C, "for_s": 5},
}


def wrong() -> list[Any]:
    """Values that hardly any parameter takes; anew each time, since some can be iterated over only once."""
    return [
        None, True, -1, 0, 5, 1.5, float("nan"), 2**70, "", " ", "a\0b", "\ud800", "x" * 2000, b"bytes", object(), object,
        [], [None], ["", 5], [["a"]], {}, {1: 2}, {"k": object()}, {"": 1}, {"k": 2**70}, {"k": ["\ud800"]},
        {"k": {"gte": 10**400}}, {"k": {"gte": "never"}}, {"id": 1}, iter([5]), (n for n in [b"x"]), len, ValueError("v"),
        Document(id="a", text="t"), models.Filter(must=[models.HasIdCondition(has_id=["\ud800"])]),
    ]  # fmt: skip


def calls_of(client: Client) -> dict[str, Callable[..., Any]]:
    """Every public call by its name."""
    places = {f"{name}.": getattr(client, name) for name in vars(client) if not name.startswith("_")}
    places |= {"": client, "job.": client.enqueue(C, Document(id="a", text="t"))}
    return {
        f"{prefix}{name}": entered(getattr(place, name))
        for prefix, place in places.items()
        for name in dir(place)
        if not name.startswith("_") and inspect.isroutine(getattr(place, name))
    }


def entered(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call; where it gives a context, that is entered and left."""

    @functools.wraps(call)
    def done(*args: Any, **named: Any) -> Any:
        with contextlib.ExitStack() as stack:
            answer = call(*args, **named)
            return stack.enter_context(answer) if isinstance(answer, contextlib.AbstractContextManager) else answer

    done.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]  # a bound method's, without `self`
    return done


@pytest.fixture(scope="module", params=PLACES)
def calls(request: pytest.FixtureRequest) -> Iterator[dict[str, Callable[..., Any]]]:
    with Client.embedded(**place_of(request), model="hash:16", reranker="overlap:64", threads=2) as client:
        before = {spec.name for spec in client.collections.list()}
        client.create_collection(C)
        yield calls_of(client)
        for spec in client.collections.list():
            if spec.name not in before:
                client.collections.delete(spec.name)


def test_every_public_call_is_gone_through(calls: dict[str, Callable[..., Any]]) -> None:
    assert set(calls) == set(RIGHT) | {"close", "embedded"}


@pytest.mark.parametrize("name", RIGHT)
def test_wrong_arguments_are_refused_in_our_words(name: str, calls: dict[str, Callable[..., Any]]) -> None:
    call = calls[name]
    foreign = []
    for parameter in inspect.signature(call).parameters:
        for value in wrong():
            if parameter == "progress" and callable(value):
                continue  # what a callback raises is the caller's own
            try:
                call(**RIGHT[name] | {parameter: value})
            except GristmillError:
                continue
            except Exception as error:
                foreign.append(f"{parameter}={value!r:.40}: {type(error).__name__}: {error}"[:200])
    assert foreign == []


class _Babbler(socketserver.BaseRequestHandler):
    """Answers everything with a web page, like a proxy in front of nothing."""

    def handle(self) -> None:
        self.request.settimeout(5)
        self.request.recv(65_536)
        page = b"<html>it works</html>"
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))


@pytest.fixture
def babbler() -> Iterator[int]:
    """Port of a server that speaks neither Redis nor gRPC nor Qdrant."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Babbler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def error_of(client: Client, name: str) -> str | None:
    """What a call raises that is not ours."""
    place: Any = client
    *group, method = name.split(".")
    for each in group:
        place = getattr(place, each)
    try:
        answer = entered(getattr(place, method))(**RIGHT[name])
        if isinstance(answer, Iterator):
            list(answer)
    except GristmillError:
        return None
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}"[:300]
    return None


def errors_of(client: Client, names: set[str], at_once: int = 1) -> list[str]:
    with ThreadPoolExecutor(at_once) as side_by_side:
        return [each for each in side_by_side.map(lambda name: error_of(client, name), sorted(names)) if each]


NO_JOB = {name for name in RIGHT if not name.startswith("job.")}


@pytest.mark.parametrize("kind", ["nobody listens", "something else listens"])
def test_servers_that_are_none_are_spoken_of_in_our_words(kind: str, babbler: int, hasty_redis: None) -> None:
    port = babbler if kind == "something else listens" else free_port()
    with Client(
        redis_url=f"redis://127.0.0.1:{port}/0",
        redis_timeout_s=0.5,
        qdrant_url=f"http://127.0.0.1:{port}",
        qdrant_grpc_port=port,
        qdrant_timeout_s=1,
    ) as client:
        # Side by side: each tries for a while before it gives up.
        assert errors_of(client, NO_JOB, at_once=16) == []


@pytest.mark.vandal
@pytest.mark.parametrize("damage", ["another type", "other values"])
def test_a_redis_that_holds_other_things_under_our_keys_is_spoken_of_in_our_words(
    redis_url: str, qdrant_server: QdrantServer, damage: str
) -> None:
    port = qdrant_server.grpc_port
    with (
        Client(redis_url=redis_url, qdrant_url=qdrant_server.url, qdrant_grpc_port=port, query_timeout_s=0.2) as client,
        redis.Redis.from_url(redis_url) as other,
    ):
        client._parts.ledger.announce(HashEncoder(16).info)
        client.create_collection(C, "hash:16")
        client.enqueue(C, Document(id="a", text="t"))
        for key in other.scan_iter():
            if damage == "another type":
                other.delete(key)
                other.set(key, "nonsense")
            elif other.type(key) == b"hash":
                other.hset(key, mapping=dict.fromkeys(other.hkeys(key), "nonsense"))
        assert errors_of(client, NO_JOB) == []
        qdrant_server.drop_collections(C)


@pytest.mark.parametrize("name", sorted(RIGHT.keys() - {"instructions.presets", "tenant"}))  # which ask nobody
def test_a_closed_client_is_said_to_be_closed(name: str) -> None:
    client = Client.embedded(model="hash:16")
    client.create_collection(C)
    call = calls_of(client)[name]
    client.close()
    client.close()
    with pytest.raises(InvalidInput, match="client: expected an open one, this one was closed"):
        call(**RIGHT[name])
    assert "closed" in repr(client)
