"""Bulk loads on a real server: HNSW is really off, and what was set before comes back however the load ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from gristmill import (
    AsyncClient,
    Client,
    CollectionConflict,
    IndexState,
    IndexStatus,
    InvalidInput,
    StoreRefused,
    WaitTimeout,
)
from gristmill.maintenance import bulk_loads
from gristmill.store import bulk
from gristmill_schemas import BulkHolder
from gristmill_worker.process import embedded as embedded_mode
from places import ways_to
from services import QdrantServer
from waiting import eventually

pytestmark = pytest.mark.server
Run = Callable[..., tuple[int, str, str]]
#: What differs from every default.
HNSW = models.HnswConfigDiff(m=24, payload_m=8, ef_construct=64)


@pytest.fixture
def store(qdrant_server: QdrantServer) -> Iterator[QdrantClient]:
    with contextlib.closing(qdrant_server.client()) as client:
        yield client


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks when it starts, and then no more: what is restored here is restored by whom the test says."""
    monkeypatch.setattr(embedded_mode, "BULK_PERIOD_S", 1000.0)


@pytest.fixture
def mill(qdrant_server: QdrantServer, collection_name: str) -> Iterator[Client]:
    with open_mill(qdrant_server) as client:
        client.create_collection(collection_name)
        yield client


def open_mill(server: QdrantServer) -> Client:
    return Client.embedded(server.url, **ways_to(server), model="hash:64", threads=4)


def switches(store: QdrantClient, name: str) -> tuple[Any, ...]:
    """All that decides about the index: threshold, graph, the graph of tenants, vectors' own graphs."""
    config = store.get_collection(name).config
    vectors = config.params.vectors
    own = {"": vectors} if isinstance(vectors, models.VectorParams) else dict(vectors or {})
    graphs = {key: each.hnsw_config and each.hnsw_config.model_dump(exclude_none=True) for key, each in own.items()}
    return config.optimizer_config.indexing_threshold, config.hnsw_config.model_dump(exclude_none=True), graphs


def is_off(store: QdrantClient, name: str) -> bool:
    threshold, hnsw, graphs = switches(store, name)
    return threshold == 0 and hnsw["m"] == 0 and not any(own and own.get("m") for own in graphs.values())


def marks(store: QdrantClient, name: str) -> list[str]:
    return [key for key in store.get_collection(name).config.metadata or {} if key.startswith("gristmill_bulk")]


def documents(count: int) -> list[dict[str, str]]:
    return [{"id": str(n), "text": f"text number {n}"} for n in range(count)]


def with_points(store: QdrantClient, name: str, count: int, start: int = 0) -> None:
    rows = np.random.default_rng(7).normal(size=(count, 64)).astype(np.float32)
    for at in range(0, count, 2048):
        part = rows[at : at + 2048].tolist()
        store.upsert(name, models.Batch(ids=list(range(start + at, start + at + len(part))), vectors=part), wait=True)


def set_by_hand(store: QdrantClient, name: str) -> tuple[Any, ...]:
    store.update_collection(
        name,
        hnsw_config=HNSW,
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=777),
        vectors_config={"": models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=5, ef_construct=33))},
    )
    return switches(store, name)


def test_hnsw_is_off_within_the_block_and_everything_is_as_before_after_it(
    mill: Client, store: QdrantClient, collection_name: str
) -> None:
    before = set_by_hand(store, collection_name)
    with mill.bulk(collection_name):
        assert is_off(store, collection_name)
        assert mill.enqueue(collection_name, documents(200)).wait(60).stored == 200
        status = mill.collections.index_status(collection_name)
        assert (status.state, status.points, status.indexed) == (IndexState.DEFERRED, 200, 0)
        assert mill.collections.get(collection_name).bulk_since
    assert switches(store, collection_name) == before
    assert marks(store, collection_name) == []
    assert mill.collections.get(collection_name).bulk_since is None


def test_an_exception_in_the_block_leaves_nothing_off(mill: Client, store: QdrantClient, collection_name: str) -> None:
    before = switches(store, collection_name)
    with pytest.raises(ZeroDivisionError), mill.bulk(collection_name):
        raise ZeroDivisionError
    assert switches(store, collection_name) == before


def test_what_is_indexed_already_stays_indexed(mill: Client, store: QdrantClient, collection_name: str) -> None:
    store.update_collection(collection_name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=100))
    with_points(store, collection_name, 4096)
    indexed = mill.collections.wait_for_index(collection_name, timeout_s=60).indexed
    assert indexed > 0
    before = switches(store, collection_name)
    with mill.bulk(collection_name):
        with_points(store, collection_name, 2048, start=10_000)
        status = mill.collections.index_status(collection_name)
        assert (status.indexed, status.points) == (indexed, 6144)
        assert switches(store, collection_name)[0] == 0
    assert switches(store, collection_name) == before
    assert mill.collections.wait_for_index(collection_name, timeout_s=60).indexed > indexed


def test_the_wait_for_the_index_shows_how_far_it_is(mill: Client, store: QdrantClient, collection_name: str) -> None:
    store.update_collection(collection_name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=100))
    seen: list[IndexStatus] = []
    with mill.bulk(collection_name):
        with_points(store, collection_name, 6000)
    status = mill.finish_bulk(collection_name, timeout_s=60, progress=seen.append)
    assert (status.state, status.points) == (IndexState.READY, 6000)
    assert status.indexed > 0
    assert seen[-1] == status


def test_the_first_of_two_loads_to_end_leaves_the_other_alone(
    mill: Client, qdrant_server: QdrantServer, store: QdrantClient, collection_name: str
) -> None:
    before = switches(store, collection_name)
    with open_mill(qdrant_server) as other, other.bulk(collection_name):
        with mill.bulk(collection_name):
            assert len(mill.collections.index_status(collection_name).bulk.holders) == 2  # type: ignore[union-attr]  # there is
        assert is_off(store, collection_name)
        with pytest.raises(CollectionConflict, match=r"still being loaded by process \d+ on .*--force"):
            mill.finish_bulk(collection_name)
        with pytest.raises(WaitTimeout, match="put off for a bulk load"):
            mill.collections.wait_for_index(collection_name, timeout_s=0)
    assert switches(store, collection_name) == before


def test_what_is_switched_on_by_force_stays_on(
    mill: Client,
    qdrant_server: QdrantServer,
    store: QdrantClient,
    collection_name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bulk_loads, "_RENEW_S", 0.05)
    before = switches(store, collection_name)

    def forced() -> bool:
        # Again, since Qdrant cannot compare and set: what is renewed at that very moment goes on.
        mill.finish_bulk(collection_name, force=True)
        return "ended by force" in caplog.text

    with open_mill(qdrant_server) as other, other.bulk(collection_name):
        eventually(forced)
        assert switches(store, collection_name) == before
    assert switches(store, collection_name) == before


def test_a_load_whose_mark_was_lost_in_a_race_says_it_again(
    mill: Client, store: QdrantClient, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_loads, "_RENEW_S", 0.05)
    before = set_by_hand(store, collection_name)
    with mill.bulk(collection_name):
        threshold, hnsw, _ = before
        store.update_collection(
            collection_name,
            metadata={"gristmill_bulk": None},
            hnsw_config=models.HnswConfigDiff(m=hnsw["m"]),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=threshold),
            vectors_config={"": models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=5))},
        )
        eventually(lambda: is_off(store, collection_name))
    assert switches(store, collection_name) == before


class _Between:
    """A store where something comes in between: right before its update of so many, from 0."""

    def __init__(self, store: QdrantClient, number: int, what: Callable[[], object]) -> None:
        self._store = store
        self._left = number
        self._what = what

    def update_collection(self, *args: Any, **kwargs: Any) -> Any:
        if self._left == 0:
            self._what()
        self._left -= 1
        return self._store.update_collection(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def _holder(name: str) -> BulkHolder:
    return BulkHolder(id=name, since=1.0, until=2e9, host="here")


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("who", ["comes as the last one ends", "ends as the next one comes"])
def test_a_load_that_begins_while_another_ends_knows_what_was_set_before(
    mill: Client, store: QdrantClient, collection_name: str, who: str, number: int
) -> None:
    """Whichever requests of the two come in between one another."""
    before = set_by_hand(store, collection_name)
    bulk.hold(store, collection_name, _holder("first"))

    def end(through: Any = store) -> None:
        bulk.release(through, collection_name, "first")
        load = bulk.index_status(store, collection_name, "c")[0].bulk
        if load is not None and not load.holders:
            bulk.restore(through, collection_name, load)

    def come(through: Any = store) -> None:
        bulk.hold(through, collection_name, _holder("second"))

    first, second = (end, come) if who == "comes as the last one ends" else (come, end)
    between = _Between(store, number, second)
    first(between)
    if between._left >= 0:
        second()
    assert bulk.hold(store, collection_name, _holder("second"), again=True)
    assert is_off(store, collection_name)
    bulk.release(store, collection_name, "second")
    assert bulk.restore(store, collection_name)
    assert switches(store, collection_name) == before
    assert marks(store, collection_name) == []


def test_what_somebody_sets_meanwhile_stays(mill: Client, store: QdrantClient, collection_name: str) -> None:
    with mill.bulk(collection_name):
        store.update_collection(collection_name, hnsw_config=models.HnswConfigDiff(m=48))
    threshold, hnsw, _ = switches(store, collection_name)
    assert (threshold > 0, hnsw["m"]) == (True, 48)


def test_a_new_collection_is_in_bulk_until_its_client_is_closed(
    qdrant_server: QdrantServer, store: QdrantClient, collection_name: str
) -> None:
    with open_mill(qdrant_server) as client:
        spec = client.create_collection(collection_name, bulk=True)
        assert spec.bulk_since
        assert is_off(store, collection_name)
        assert client.enqueue(collection_name, documents(20)).wait(60).stored == 20
    threshold, hnsw, _ = switches(store, collection_name)
    assert threshold > 0
    assert hnsw["m"] == 16


def test_finish_bulk_ends_what_create_collection_began(
    qdrant_server: QdrantServer, store: QdrantClient, collection_name: str
) -> None:
    with open_mill(qdrant_server) as client:
        client.create_collection(collection_name, bulk=True)
        assert client.finish_bulk(collection_name, timeout_s=60).state is IndexState.READY
        assert not is_off(store, collection_name)
        assert client.finish_bulk(collection_name, wait=False).state is IndexState.READY, "again is harmless"


KILLED = """
import os, signal, sys
from gristmill import Client
client = Client.embedded(sys.argv[1], qdrant_grpc_port=int(sys.argv[2]), model="hash:64")
load = client.bulk(sys.argv[3])
load.__enter__()
print("holds", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_while_loading(server: QdrantServer, name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, server.url, str(server.grpc_port), name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.returncode) == ("holds\n", -9), ended.stderr


def test_after_a_kill_the_audit_switches_the_index_on(
    mill: Client, qdrant_server: QdrantServer, store: QdrantClient, collection_name: str
) -> None:
    before = set_by_hand(store, collection_name)
    killed_while_loading(qdrant_server, collection_name)
    assert is_off(store, collection_name)
    assert mill.audit(collection_name).index_restored
    assert switches(store, collection_name) == before
    assert marks(store, collection_name) == []
    assert not mill.audit(collection_name).index_restored


def test_after_a_kill_the_next_worker_switches_the_index_on(
    qdrant_server: QdrantServer, store: QdrantClient, collection_name: str
) -> None:
    with open_mill(qdrant_server) as client:
        client.create_collection(collection_name)
    before = set_by_hand(store, collection_name)
    killed_while_loading(qdrant_server, collection_name)
    assert is_off(store, collection_name)
    with open_mill(qdrant_server):
        eventually(lambda: switches(store, collection_name) == before)


def test_the_workers_switch_the_index_on_once_the_last_document_is_stored(
    qdrant_server: QdrantServer, store: QdrantClient, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_mode, "BULK_PERIOD_S", 0.1)
    with open_mill(qdrant_server) as client:
        client.create_collection(collection_name)
        before = switches(store, collection_name)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(bulk_loads.BulkLoads, "_on_their_way", lambda *_: True)
            with client.bulk(collection_name):
                pass
            assert is_off(store, collection_name)
        eventually(lambda: switches(store, collection_name) == before)


def test_a_search_meanwhile_is_right_and_says_once_that_it_is_slow(
    mill: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with mill.bulk(collection_name):
        mill.enqueue(collection_name, documents(20)).wait(60)
        for _ in range(3):
            assert mill.search(collection_name, "text number 7", limit=1)[0].id == "7"
    assert caplog.text.count("is in a bulk load: searches are right, and slow") == 1


def test_a_promise_is_kept_without_a_process_until_it_is_finished(
    qdrant_server: QdrantServer, store: QdrantClient, mill: Client, collection_name: str
) -> None:
    before = switches(store, collection_name)
    with open_mill(qdrant_server) as other:
        assert other.begin_bulk(collection_name, for_s=600).bulk_since
    assert is_off(store, collection_name)
    assert not mill.audit(collection_name).index_restored
    mill.finish_bulk(collection_name, timeout_s=60)
    assert switches(store, collection_name) == before


@pytest.fixture
def command(qdrant_server: QdrantServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`gristmill` as a process of its own, on the real server."""
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", qdrant_server.url)
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(qdrant_server.grpc_port))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:64")
    return [sys.executable, "-m", "gristmill"]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_an_ingest_in_bulk_that_is_stopped_leaves_nothing_off(
    command: list[str], mill: Client, store: QdrantClient, collection_name: str, sent: signal.Signals
) -> None:
    before = switches(store, collection_name)
    arguments = [*command, "ingest", "-", "-c", collection_name, "--bulk"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: is_off(store, collection_name), 60)
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    if sent is signal.SIGKILL:
        assert mill.audit(collection_name).index_restored
    else:
        assert f"gristmill collections wait {collection_name}" in said
    assert switches(store, collection_name) == before


BEGINNINGS: dict[str, Callable[[Client, str], object]] = {
    "bulk": lambda client, name: client.bulk(name).__enter__(),
    "begin_bulk": lambda client, name: client.begin_bulk(name),
    "create_collection": lambda client, name: client.create_collection(name, bulk=True),
}


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_load_that_is_interrupted_while_it_begins_leaves_nothing_off(
    begin: Callable[[Client, str], object],
    mill: Client,
    store: QdrantClient,
    collection_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, hold = switches(store, collection_name), bulk.hold

    def interrupted(*args: Any, **options: Any) -> bool:
        hold(*args, **options)
        assert is_off(store, collection_name)
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "hold", interrupted)
    with pytest.raises(KeyboardInterrupt):
        begin(mill, collection_name)
    assert (switches(store, collection_name), marks(store, collection_name)) == (before, [])


@pytest.mark.usefixtures("command")
def test_the_command_line_shows_begins_and_finishes_bulk_loads(
    run: Run, store: QdrantClient, mill: Client, collection_name: str, tmp_path: Path
) -> None:
    before = switches(store, collection_name)
    code, out, _ = run("collections", "begin-bulk", collection_name, "--json")
    assert (code, json.loads(out)["state"]) == (0, "deferred")
    assert is_off(store, collection_name)
    code, out, _ = run("collections", "show", collection_name)
    assert "in bulk since" in out
    code, _, err = run("collections", "wait", collection_name, "--timeout-s", "0")
    assert (code, "put off for a bulk load" in err) == (1, True)
    code, out, _ = run("collections", "finish-bulk", collection_name, "--json")
    assert (code, json.loads(out)["state"]) == (0, "ready")
    assert switches(store, collection_name) == before
    file = tmp_path / "docs.jsonl"
    file.write_text(json.dumps({"id": "a", "text": "abc"}))
    code, out, _ = run("ingest", str(file), "-c", collection_name, "--bulk", "--json")
    assert code == 0
    assert json.loads(out)["index"] == {"state": "ready", "points": 1, "indexed": 0, "problem": "", "bulk": None}
    assert switches(store, collection_name) == before
    assert mill.count(collection_name) == 1


def test_async_clients_load_in_bulk_too(qdrant_server: QdrantServer, store: QdrantClient, collection_name: str) -> None:
    async def load() -> IndexState:
        client = AsyncClient.embedded(qdrant_server.url, **ways_to(qdrant_server), model="hash:64")
        async with client:
            await client.create_collection(collection_name)
            async with client.bulk(collection_name):
                assert is_off(store, collection_name)
                assert (await (await client.enqueue(collection_name, documents(5))).wait(60)).stored == 5
            await client.finish_bulk(collection_name, timeout_s=60)
            return (await client.collections.wait_for_index(collection_name, timeout_s=60)).state

    assert asyncio.run(load()) is IndexState.READY
    assert not is_off(store, collection_name)


def test_local_mode_says_that_it_has_no_index_to_put_off(caplog: pytest.LogCaptureFixture) -> None:
    with Client.embedded(model="hash:16") as client, caplog.at_level(logging.WARNING):
        client.create_collection("c", bulk=True)
        with client.bulk("c"):
            client.enqueue("c", documents(3)).wait(60)
        status = client.finish_bulk("c")
        assert (status.state, status.points) == (IndexState.READY, 3)
        assert not client.audit("c").index_restored
    assert "no index (HNSW) to put off" in caplog.text


@pytest.mark.parametrize("wrong", [{"wait": 1}, {"force": "yes"}, {"timeout_s": "long"}, {"progress": 5}])
def test_what_finish_bulk_cannot_read_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with Client.embedded(model="hash:16") as client:
        client.create_collection("c")
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            client.finish_bulk("c", **wrong)
        with pytest.raises(InvalidInput, match="bulk"):
            client.create_collection("c", bulk="yes")  # type: ignore[arg-type]  # that is the point


def test_an_index_that_cannot_be_built_is_said_to_be_so(
    mill: Client, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = QdrantClient.get_collection

    def broken(self: QdrantClient, name: str, **how: Any) -> models.CollectionInfo:
        info = real(self, name, **how)
        failed = models.OptimizersStatusOneOf1(error="no space left on device")
        return info.model_copy(update={"optimizer_status": failed})

    monkeypatch.setattr(QdrantClient, "get_collection", broken)
    with pytest.raises(StoreRefused, match="no space left on device"):
        mill.collections.wait_for_index(collection_name)
