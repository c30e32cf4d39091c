"""What is measured in a process of its own: the application that enqueues, the raw upload, the encoder alone, the peers.

Each is a function that makes preparations, which are not measured, and returns what is done when asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gristmill import Client, ClientSettings
from gristmill.settings import load_settings
from gristmill.store.connection import open_store, store_errors
from gristmill_worker.bench.pipeline.documents import PointsFile, model_inputs, read_documents, share_of
from gristmill_worker.bench.pipeline.peers import peer
from gristmill_worker.bench.pipeline.processes import Handler, serve

#: What the raw upload is fastest with on few cores; the client's own `parallel` means processes.
_RAW_THREADS, _RAW_BATCH = 8, 64


def producer(documents: str) -> Handler:
    """An application: enqueues all documents."""
    items = read_documents(Path(documents))
    client = Client(load_settings(ClientSettings))
    return lambda collection, count=None: {"job": client.enqueue(collection, items[:count]).id}


def raw(points: str) -> Handler:
    """Qdrant's own client with the same points, and nothing else: the ceiling."""
    ids, payloads, vectors = PointsFile(Path(points)).read()
    store = open_store(load_settings(ClientSettings))
    share = -(-len(ids) // _RAW_THREADS)

    def upload(collection: str, start: int) -> None:
        with store_errors(collection):
            store.upload_collection(
                collection,
                vectors=vectors[start : start + share],
                payload=payloads[start : start + share],
                ids=ids[start : start + share],
                batch_size=_RAW_BATCH,
                wait=True,
                max_retries=0,
            )

    def load(collection: str) -> dict[str, int]:
        with ThreadPoolExecutor(_RAW_THREADS) as pool:
            list(pool.map(lambda start: upload(collection, start), range(0, len(ids), share)))
        return {}

    return load


def encoder(documents: str, model: str, share: int, shares: int, budget_tokens: int) -> Handler:
    """The encoder alone, fed as a worker feeds it. Of several side by side each encodes its share, or one of them all."""
    from gristmill_worker.bench.encoding import timed_encoding
    from gristmill_worker.encoder.open import open_encoder
    from gristmill_worker.settings import WorkerSettings

    settings = load_settings(WorkerSettings)
    opened = open_encoder(
        model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.dtype,
        pooling=settings.pooling,
        max_tokens=settings.max_tokens,
        budget_tokens=budget_tokens,
        trust_remote_code=settings.trust_remote_code,
    )
    items = read_documents(Path(documents))
    own, all_of_them = (model_inputs(each, opened.info) for each in (share_of(items, share, shares), items))
    timed_encoding(opened, own[:64])

    def encode(*, everything: bool) -> dict[str, Any]:
        texts = all_of_them if everything else own
        done = timed_encoding(opened, texts)
        return {"seconds": done.seconds, "texts": len(texts), "tokens": done.tokens, "launch_ms": done.launch_ms}

    return encode


SIDES: dict[str, Callable[..., Handler]] = {"producer": producer, "raw": raw, "encoder": encoder, "peer": peer}


if __name__ == "__main__":
    name, options = sys.argv[1:]
    serve(lambda: SIDES[name](**json.loads(options)))
