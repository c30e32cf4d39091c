"""The pipeline benchmark on real servers and workers: its keys, what it compares with, what it finds missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from gristmill import Client, ClientSettings
from gristmill.settings import load_settings, variable
from gristmill.store.connection import open_store
from gristmill_schemas import point_id
from gristmill_schemas.errors import CollectionNotFound
from gristmill_worker.bench.pipeline.documents import PointsFile
from gristmill_worker.bench.pipeline.inspection import Inspection, inspect
from gristmill_worker.bench.pipeline.peers import peer
from gristmill_worker.bench.pipeline.processes import running_side
from gristmill_worker.bench.pipeline.run import left_by_signals
from gristmill_worker.bench.pipeline.sides import raw
from services import QdrantServer, free_port
from services.processes import family_of, is_stopped, lives
from waiting import eventually

pytestmark = pytest.mark.server
FIXED = [
    "encoder", "documents", "dimensions", "workers", "documents_per_s", "unchanged_documents_per_s",
    "raw_points_per_s", "ceiling_fraction", "worker_cpu_ms_per_document", "producer_cpu_ms_per_document",
    "qdrant_cpu_ms_per_document", "redis_cpu_ms_per_document", "encoder_documents_per_s", "efficiency", "stored", "lost",
    "duplicates", "rss_mb",
]  # fmt: skip


@pytest.fixture
def environment(redis_url: str, qdrant_server: QdrantServer) -> dict[str, str]:
    settings = {
        "redis_url": redis_url,
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
    }
    return {variable(name): str(value) for name, value in settings.items()}


@pytest.fixture
def store(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantClient]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with closing(open_store(load_settings(ClientSettings))) as opened:
        yield opened


def bench(environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gristmill", "bench", "pipeline", *options]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def document(number: str) -> dict[str, Any]:
    return {"id": number, "text": f"text {number}", "metadata": {"number": int(number), "lang": "en"}}


def ingest(names: Sequence[str], count: int) -> list[str]:
    """Make collections; documents go into the first. Gives their ids."""
    ids = [str(number) for number in range(count)]
    with Client.embedded(os.environ[variable("qdrant_url")], model="hash:8") as mill:
        for name in names:
            mill.create_collection(name, keyword=False)  # as the benchmark does
        mill.enqueue(names[0], [document(each) for each in ids]).wait().raise_for_failures()
    return ids


def everything(store: QdrantClient, name: str) -> list[models.Record]:
    return store.scroll(name, limit=1_000, with_payload=True, with_vectors=True)[0]


def vector_of(point: models.Record) -> tuple[float, ...]:
    return tuple(np.asarray(point.vector).round(5).tolist())


def left(store: QdrantClient) -> list[str]:
    return [each.name for each in store.get_collections().collections if each.name.startswith("bench-")]


def test_it_measures_every_side_and_leaves_nothing(environment: dict[str, str], store: QdrantClient) -> None:
    options = ["--encoder", "hash:8", "--documents", "300", "--workers", "2", "--rounds", "1", "--json"]
    out, err = (running := bench(environment, *options)).communicate()
    assert running.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    assert list(report)[: len(FIXED)] == FIXED
    wanted = {"encoder": "hash:8", "documents": 300, "dimensions": 8, "workers": 2, "rounds": 1}
    assert report.items() >= {**wanted, "stored": 300, "lost": 0, "duplicates": 0}.items()
    assert all(report[key] > 0 for key in FIXED if key not in ("encoder", "lost", "duplicates"))
    assert left(store) == []


def test_several_workers_are_compared_with_one_in_every_round(environment: dict[str, str], store: QdrantClient) -> None:
    """In two rounds one is measured first, and last."""
    options = ["--encoder", "hash:16", "--documents", "300", "--workers", "2", "--scaling", "--rounds", "2", "--json"]
    out, err = (running := bench(environment, *options)).communicate()
    assert running.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    wanted = {"workers": 2, "rounds": 2, "stored": 300, "lost": 0, "duplicates": 0}
    assert report.items() >= wanted.items()
    for key in ("scaling", "encoder_scaling", "one_worker_documents_per_s", "one_worker_efficiency"):
        lowest, highest = report["spread"][key]
        assert 0 < lowest <= report[key] <= highest
    new = [line for line in err.splitlines() if ", new" in line]
    assert ["one worker" in line for line in new] == [True, False, False, True]
    assert left(store) == []


def told(environment: dict[str, str], *options: str) -> dict[str, Any]:
    """What a benchmark that fails says, as one object."""
    out, err = (running := bench(environment, "--encoder", "hash:8", *options, "--json")).communicate()
    assert running.returncode in (1, 2), err
    assert "starting" not in err
    said: dict[str, Any] = json.loads(out)
    return said


def test_a_server_that_is_away_is_named_before_any_worker_starts(
    environment: dict[str, str], store: QdrantClient
) -> None:
    no_redis = told({**environment, variable("redis_url"): f"redis://127.0.0.1:{free_port()}/0"})
    assert no_redis["error"] == "BrokerUnavailable"
    assert "GRISTMILL_REDIS_URL" in no_redis["message"]
    no_qdrant = told({**environment, variable("qdrant_grpc_port"): str(free_port())})
    assert no_qdrant["error"] == "StoreUnavailable"
    assert "GRISTMILL_QDRANT" in no_qdrant["message"]
    assert left(store) == []


def test_embedded_mode_is_refused_since_it_has_no_servers(environment: dict[str, str]) -> None:
    said = told({**environment, variable("embedded_path"): ":memory:"})
    assert said["error"] == "InvalidInput"
    assert "unset GRISTMILL_EMBEDDED_PATH" in said["message"]


def test_both_sides_are_indexed_to_the_last_vector_however_few_there_are(environment: dict[str, str]) -> None:
    options = ["--encoder", "hash:64", "--documents", "128", "--rounds", "1", "--index", "--json"]
    out, err = (running := bench(environment, *options)).communicate()
    assert running.returncode == 0, err
    report = json.loads(out)
    assert (report["indexed"], report["raw_indexed"]) == (128, 128)
    assert min(report["green_s"], report["raw_green_s"]) > 0


def test_a_side_says_what_failed_there_as_what_it_was(environment: dict[str, str], tmp_path: Path) -> None:
    texts = tmp_path / "documents.jsonl"
    texts.write_text(json.dumps(document("1")))
    with running_side("producer", environment, documents=str(texts)) as side:
        side.answer()
        with pytest.raises(CollectionNotFound, match="the producer side failed: collection 'nowhere'"):
            side.ask(collection="nowhere")


def test_a_lost_document_and_a_doubled_one_are_counted(store: QdrantClient, collection_name: str) -> None:
    ids = ingest([collection_name], 5)
    assert inspect(store, collection_name, ids) == Inspection(stored=5, lost=0, duplicates=0)
    store.delete(collection_name, [point_id("3", None)])
    again = store.retrieve(collection_name, [point_id("1", None)], with_vectors=True)[0]
    store.upsert(collection_name, [models.PointStruct(id=7, vector=again.vector, payload=again.payload)])
    assert inspect(store, collection_name, ids) == Inspection(stored=4, lost=1, duplicates=1)
    assert inspect(store, collection_name, ids[1:]) == Inspection(stored=3, lost=1, duplicates=2)


def test_the_raw_side_uploads_the_very_points_that_the_workers_wrote(
    store: QdrantClient, collection_name: str, tmp_path: Path
) -> None:
    ours, theirs = collection_name, f"{collection_name}-raw"
    ingest([ours, theirs], 300)
    PointsFile(tmp_path).copy(store, ours)
    raw(str(tmp_path))(collection=theirs)
    assert everything(store, theirs) == everything(store, ours)
    assert store.count(theirs).count == 300


@pytest.mark.filterwarnings("ignore")  # the peers' own
@pytest.mark.parametrize(
    ("name", "doubled"),
    [
        ("langchain", False),
        ("langchain-in-memory", False),
        ("langchain-add-texts", True),
        ("llamaindex", False),
        ("llamaindex-docstore", False),
    ],
)
def test_a_peer_loads_the_same_texts_and_vectors_twice(
    store: QdrantClient, collection_name: str, tmp_path: Path, name: str, doubled: bool
) -> None:
    for module in ("langchain_classic", "langchain_qdrant", "llama_index.core", "llama_index.vector_stores.qdrant"):
        pytest.importorskip(module)
    ours, theirs = collection_name, f"{collection_name}-peer"
    ingest([ours], 100)
    PointsFile(tmp_path).copy(store, ours)
    store.create_collection(theirs, vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
    ask = peer(name, str(tmp_path))
    ask(collection=theirs, load=False)
    assert store.count(theirs).count == 0
    for points in (100, 200 if doubled else 100):
        ask(collection=theirs, load=True)
        assert store.count(theirs).count == points
    assert {vector_of(each) for each in everything(store, theirs)} == {
        vector_of(each) for each in everything(store, ours)
    }


def test_whoever_interrupts_it_finds_no_collection_and_no_process(
    environment: dict[str, str], store: QdrantClient
) -> None:
    options = ("--encoder", "hash:8", "--documents", "20000", "--rounds", "100", "--json")
    environment |= {"PYTHONFAULTHANDLER": "1"}  # one that hangs says where, once it is aborted
    running = {number: bench(environment, *options) for number in (signal.SIGINT, signal.SIGTERM)}
    eventually(lambda: len({name.rpartition("-")[0] for name in left(store)}) == len(running), within_s=120)
    family = [each for process in running.values() for each in family_of(process.pid)]
    for number, process in running.items():
        process.send_signal(number)
    for number, process in running.items():
        assert ended(process) in (128 + number, 130)
    assert left(store) == []
    assert [each for each in family if lives(each)] == []
    assert len(family) > 2 * len(running)


def test_halted_workers_end_though_it_is_killed(environment: dict[str, str], store: QdrantClient) -> None:
    options = ("--encoder", "hash:8", "--documents", "5000", "--workers", "2", "--scaling", "--rounds", "100", "--json")
    process = bench(environment, *options)
    eventually(lambda: left(store), within_s=120)  # all have been started
    family = family_of(process.pid)
    eventually(lambda: any(is_stopped(each) for each in family), within_s=120)
    process.kill()
    process.communicate()
    eventually(lambda: not any(lives(each) for each in family), within_s=120)
    for each in left(store):
        store.delete_collection(each)


def test_whoever_interrupts_it_while_workers_are_halted_finds_none_of_them(
    environment: dict[str, str], store: QdrantClient
) -> None:
    options = ("--encoder", "hash:8", "--documents", "5000", "--workers", "2", "--scaling", "--rounds", "100", "--json")
    for number in (signal.SIGINT, signal.SIGTERM):
        process = bench(environment | {"PYTHONFAULTHANDLER": "1"}, *options)
        eventually(lambda: left(store), within_s=120)  # all have been started
        family = family_of(process.pid)
        eventually(lambda: any(is_stopped(each) for each in family), within_s=120)  # noqa: B023
        process.send_signal(number)
        assert ended(process) in (128 + number, 130)
        assert left(store) == []
        assert [each for each in family if lives(each)] == []


def ended(process: subprocess.Popen[str]) -> int:
    try:
        process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail("it went on:\n" + process.communicate(timeout=10)[1])
    return process.returncode


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_drops_ends_it_with_the_next_note() -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    notes: list[str] = []
    with left_by_signals() as leaving:
        note = leaving.noted(notes.append)
        note("before")
        Finalized()
        with pytest.raises(SystemExit, match="143"):
            note("after")
    assert notes == ["before"]
