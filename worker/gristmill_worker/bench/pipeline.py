"""`gristmill bench pipeline`: everything but the model, through real servers, against what Qdrant takes at most.

A worker process with an encoder that costs nothing (`hash:DIM`) works through documents twice: new, then unchanged. The
ceiling, in the same run: the same number of vectors with the same payload, uploaded raw from threads of this process,
without reading, fencing, ledger or queue.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from gristmill import Client, ClientSettings, Document, JobReport
from gristmill.settings import load_settings, variable
from gristmill.store.connection import open_store
from gristmill_schemas import point_id
from gristmill_worker.process.supervisor import supervised_worker

_RAW_THREADS = 8
_RAW_BATCH = 64


def run_pipeline_bench(documents: int, dimensions: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Measure; returns the figures under the keys that `--json` prints."""
    model = f"hash:{dimensions}"
    settings = load_settings(ClientSettings, key_prefix=f"bench-{uuid.uuid4().hex[:8]}")
    name = settings.key_prefix
    with Client(settings) as client, _worker(settings, model):
        client.create_collection(name, model, wait_s=60)
        try:
            note(f"{documents:,} new documents")
            first = _ingest(client, name, documents)
            note("the same, unchanged")
            second = _ingest(client, name, documents)
            count = client.collections.count(name)
        finally:
            client.collections.delete(name)
    note("raw upload, for comparison")
    raw = _raw(settings, name, documents, dimensions)
    rate = first.finished / first.seconds
    return {
        "documents": documents,
        "dimensions": dimensions,
        "stored": first.stored,
        "skipped": second.skipped,
        "count": count,
        "documents_per_s": round(rate, 1),
        "unchanged_documents_per_s": round(second.finished / second.seconds, 1),
        "raw_points_per_s": round(raw, 1),
        "ceiling_fraction": round(rate / raw, 3),
    }


@contextmanager
def _worker(settings: ClientSettings, model: str) -> Iterator[None]:
    environment = {**os.environ, variable("key_prefix"): settings.key_prefix}
    command = [*supervised_worker(), "--model", model, "--log-level", "error"]
    # Standard output belongs to the report.
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _ingest(client: Client, name: str, documents: int) -> JobReport:
    return client.enqueue(name, (_document(number) for number in range(documents))).wait()


def _document(number: int) -> Document:
    text = f"Paragraph {number} of a text that is about as long as those that people embed most often. " * 3
    return Document(id=str(number), text=text, metadata={"number": number, "lang": "en"})


def _raw(settings: ClientSettings, name: str, documents: int, dimensions: int) -> float:
    store = open_store(settings)
    store.create_collection(name, vectors_config=models.VectorParams(size=dimensions, distance=models.Distance.COSINE))
    vectors = np.random.default_rng(0).standard_normal((documents, dimensions), dtype=np.float32)
    try:
        started = time.perf_counter()
        with ThreadPoolExecutor(_RAW_THREADS) as pool:
            list(pool.map(lambda start: _upload(store, name, vectors, start), range(0, documents, _RAW_BATCH)))
        return documents / (time.perf_counter() - started)
    finally:
        store.delete_collection(name)
        store.close()


def _upload(store: QdrantClient, name: str, vectors: np.ndarray[Any, np.dtype[np.float32]], start: int) -> None:
    numbers = range(start, min(start + _RAW_BATCH, len(vectors)))
    payload = [{"text": _document(number).text, "number": number} for number in numbers]
    store.upload_collection(
        name,
        vectors=vectors[numbers.start : numbers.stop],
        payload=payload,
        ids=[point_id(str(number), None) for number in numbers],
        batch_size=len(numbers),
        wait=True,
        max_retries=0,
    )
