"""Where Qdrant keeps several copies, every write goes in one order and every read of the fence asks a majority.

Listeners in place of Qdrant write down what comes over the wire, on gRPC and on REST. What a cluster does with it:
`integration/test_replicas.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages

from gristmill.maintenance.audit.repairing import Repairer
from gristmill.settings import ClientSettings, load_settings
from gristmill.store.connection import open_local_store, open_store
from gristmill.store.points import change, look_up, raise_versions, read_systems, read_unchanged, upsert
from gristmill_schemas import CollectionSpec, PointSystem
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.batching.idle_clock import IdleClock
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline.sink import Point, Sink, older_than
from gristmill_worker.waiting.patience import Patience
from services.model_server import Answer
from services.proxy import Proxy

ID = "6f0b8a2e-0000-4000-8000-000000000000"
HELD = PointSystem(id="a", chunk=0, version=1, space="s", text_hash="t", etag="e", job="j", stored_at=0.0)
DELETION = models.DeleteOperation(delete=models.PointIdsList(points=[ID]))
Call = Callable[[QdrantClient, CollectionSpec], object]
READS: dict[str, Call] = {
    "read_systems": lambda store, spec: read_systems(store, spec, [ID]),
    "read_unchanged": lambda store, spec: read_unchanged(store, spec, {ID: ("etag", 3)}, "space"),
    "look_up": lambda store, spec: look_up(store, spec, [ID]),
    "recover": lambda store, spec: Repairer(store, spec)._recover(HELD),
}
WRITES: dict[str, Call] = {
    "upsert": lambda store, spec: upsert(store, spec, [(ID, np.ones(4, np.float32), {"a": 1})], older_than(3)),
    "raise_versions": lambda store, spec: raise_versions(store, spec, [ID], ["etag"], 3),
    "change": lambda store, spec: change(store, spec, [DELETION]),
    "delete_points": lambda store, spec: Repairer(store, spec).delete_points({ID: HELD}),
}
#: What is asked for, by the number of copies: of reads, and of writes.
ASKED = {1: (None, None), 2: ("quorum", "strong"), 3: ("quorum", "strong")}


def spec_of(replicas: int) -> CollectionSpec:
    return CollectionSpec(name="c", space=HashEncoder(4).info.space(), replicas=replicas)


REQUESTS: dict[str, Any] = {
    "/qdrant.Points/Get": messages.GetPoints,
    "/qdrant.Points/Upsert": messages.UpsertPoints,
    "/qdrant.Points/SetPayload": messages.SetPayloadPoints,
    "/qdrant.Points/UpdateBatch": messages.UpdateBatchPoints,
}


class Heard(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """A Qdrant that writes down consistency and ordering of every call, and answers with nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        kind = REQUESTS[details.method]

        def answer(request: Any, context: grpc.ServicerContext) -> bytes:
            self.asked.append(asked_by(request))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer, kind.FromString, lambda nothing: nothing)


def asked_by(request: Any) -> tuple[str | None, str | None]:
    names = {field.name for field, _ in request.ListFields()}
    read = messages.ReadConsistencyType.Name(request.read_consistency.type) if "read_consistency" in names else None
    write = messages.WriteOrderingType.Name(request.ordering.type) if "ordering" in names else None
    return read and read.lower(), write and write.lower()


@contextmanager
def over_grpc() -> Iterator[tuple[QdrantClient, list[tuple[str | None, str | None]]]]:
    heard = Heard()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, [heard])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        store = open_store(load_settings(ClientSettings, qdrant_url="http://127.0.0.1:1", qdrant_grpc_port=port))
        try:
            yield store, heard.asked
        finally:
            store.close()
            server.stop(None).wait()


@contextmanager
def over_rest() -> Iterator[tuple[QdrantClient, list[tuple[str | None, str | None]]]]:
    asked: list[tuple[str | None, str | None]] = []
    done = {"operation_id": 0, "status": "completed"}

    def answer(method: str, path: str) -> Answer:
        query = parse_qs(urlsplit(path).query)
        asked.append((query.get("consistency", [None])[0], query.get("ordering", [None])[0]))
        result: Any = [] if "wait" not in query else [done] if "batch" in path else done
        return Answer(200, json.dumps({"result": result, "status": "ok", "time": 0}).encode())

    with Proxy(fault=answer) as proxy:
        store = open_store(load_settings(ClientSettings, qdrant_url=proxy.url, qdrant_prefer_grpc=False))
        try:
            yield store, asked
        finally:
            store.close()


@pytest.mark.parametrize("way", [over_grpc, over_rest])
@pytest.mark.parametrize("replicas", ASKED)
def test_reads_of_the_fence_ask_a_majority_and_writes_keep_one_order_where_there_are_several_copies(
    way: Callable[[], Any], replicas: int
) -> None:
    read, write = ASKED[replicas]
    with way() as (store, asked):
        for name, call in (READS | WRITES).items():
            asked.clear()
            call(store, spec_of(replicas))
            expected = (read, None) if name in READS else (None, write)
            assert set(asked) <= {expected}, name
            assert asked or (name, way) == ("read_unchanged", over_rest), "that one is asked over gRPC only"


@pytest.mark.parametrize(("replicas", "seen"), [(1, ["first", "first", "first"]), (2, ["first", "again", "again"])])
def test_a_write_that_reached_some_copies_is_repeated_on_all_and_other_content_is_not(
    replicas: int, seen: list[str]
) -> None:
    spec = spec_of(replicas)
    with closing(open_local_store(":memory:")) as store:
        store.create_collection("c", models.VectorParams(size=4, distance=models.Distance.COSINE))
        sink = Sink(store, Patience(Event()), IdleClock(), wait_s=1)

        def job_after_writing(job: str, etag: str) -> str:
            system = HELD.model_copy(update={"job": job, "etag": etag})
            payload = {SYSTEM_KEY: system.model_dump(mode="json")}
            point = Point(ID, np.ones(4, np.float32), payload, version=1, chunk=0, content_bytes=9)
            assert sink.write(spec, [point]) == {}
            return sink.stored(spec, [ID])[ID].job

        written = [("first", "e"), ("again", "e"), ("other", "another content")]
        assert [job_after_writing(*each) for each in written] == seen
