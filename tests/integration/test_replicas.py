"""A cluster of three real Qdrant nodes: what workers do while one is away, and that all copies hold the same afterwards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from gristmill import Client
from gristmill.store.connection import store_errors
from gristmill.store.points import change, raise_versions, upsert
from gristmill_schemas import CollectionSpec, point_id
from gristmill_schemas.errors import StoreUnavailable
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.pipeline.sink import deleting_through, older_than
from places import ways_to
from services import QdrantServer
from waiting import eventually

MakeQdrant = Callable[..., QdrantServer]


@pytest.fixture
def nodes(make_qdrant: MakeQdrant) -> list[QdrantServer]:
    """Three nodes that know one another; the last one leads every shard that all have a copy of."""
    first = make_qdrant(cluster=True)
    made = [first, make_qdrant(cluster=first), make_qdrant(cluster=first)]
    for node in made:
        eventually(functools.partial(knows_all, node))
    return sorted(made, key=lambda node: node.peer_ids()[0])


def knows_all(node: QdrantServer) -> bool:
    return len(node.peer_ids()) == 3


@pytest.fixture
def mill(nodes: list[QdrantServer], collection_name: str) -> Iterator[Client]:
    """Its Qdrant is the node that never leads."""
    with Client.embedded(nodes[0].url, **ways_to(nodes[0]), model="hash:16", threads=2) as client:
        client.create_collection(collection_name, replicas=3, write_consistency=2)
        yield client


def documents(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"id": str(n), "text": f"text number {n}"} for n in range(start, start + count)]


def copy_on(node: QdrantServer, name: str) -> dict[Any, Any]:
    """What a node itself holds: it prefers its own copy."""
    with closing(node.client()) as store:
        points, _ = store.scroll(name, limit=1000, with_vectors=True)
        return {point.id: (point.payload, point.vector) for point in points}


def agree(nodes: list[QdrantServer], name: str) -> bool:
    first, *others = (copy_on(node, name) for node in nodes)
    return all(other == first for other in others)


def test_while_the_leader_of_a_shard_is_away_its_documents_wait_and_none_dies(
    nodes: list[QdrantServer], mill: Client, collection_name: str
) -> None:
    assert mill.collections.get(collection_name).replicas == 3
    assert mill.enqueue(collection_name, documents(20)).wait(60).stored == 20
    nodes[-1].kill()
    job = mill.enqueue(collection_name, documents(20, start=20))
    spec = mill.collections.get(collection_name)
    with closing(nodes[0].client()) as store, pytest.raises(StoreUnavailable, match="leader") as caught, store_errors():
        upsert(store, spec, [(point_id("x", None), np.ones(16, np.float32), {"text": "x"})], older_than(1))
    assert not caught.value.may_be_the_request
    nodes[-1].start()
    report = job.wait(120)
    assert (report.stored, report.dead) == (20, 0)
    eventually(lambda: agree(nodes, collection_name), 60)


def test_while_another_node_is_away_a_majority_goes_on(
    nodes: list[QdrantServer], mill: Client, collection_name: str
) -> None:
    nodes[1].kill()
    report = mill.enqueue(collection_name, documents(20)).wait(60)
    assert (report.stored, report.dead) == (20, 0)
    assert mill.enqueue(collection_name, documents(20)).wait(60).skipped == 20
    assert mill.delete(collection_name, ["0", "1"]).wait(60).deleted == 2
    nodes[1].start()
    eventually(lambda: agree(nodes, collection_name), 60)
    assert len(copy_on(nodes[1], collection_name)) == 18


def test_copies_agree_whatever_order_writers_come_in_through_whichever_node(
    nodes: list[QdrantServer], mill: Client, collection_name: str
) -> None:
    spec = mill.collections.get(collection_name)
    stores, together = [node.client() for node in nodes], Barrier(6)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda writer: write_all(stores[writer % 3], spec, writer, together), range(6)))
    for store in stores:
        store.close()
    assert len(copy_on(nodes[0], collection_name)) > 0
    assert agree(nodes, collection_name)


def write_all(store: QdrantClient, spec: CollectionSpec, writer: int, together: Barrier) -> None:
    """All that workers do to a document, each time at the same moment as the other writers."""
    content = f"content {writer % 2}"
    for n in range(60):
        ids, version = [point_id(str(n), None)], 2 + writer // 2
        system = {"id": str(n), "version": version, "etag": content}
        point = (ids[0], np.full(16, writer + 1, np.float32), {SYSTEM_KEY: system, "text": f"by {writer}"})
        together.wait(60)
        upsert(store, spec, [point], older_than(version))
        raise_versions(store, spec, ids, [content], version + writer)
        change(store, spec, deleting_through([(str(n), None, n % 10)]))
        upsert(store, spec, [point], older_than(version))
