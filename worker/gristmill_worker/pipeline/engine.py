"""The composition root of everything that encodes: one model, one batcher, one pipeline, in one process.

A worker feeds it from Celery, embedded mode from this process; the code in between is the same.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient

from gristmill.ledger import Ledger
from gristmill.store.collections import Collections
from gristmill_schemas import VectorSpace
from gristmill_schemas.errors import EncodingFailed, SpaceMismatch
from gristmill_worker.batching.batcher import Batcher, Lane
from gristmill_worker.batching.idle_clock import IdleClock, Stage
from gristmill_worker.encoder import Encoder, cut, open_encoder
from gristmill_worker.pipeline.leases import Keeper, exit_if_hung
from gristmill_worker.pipeline.patience import Patience
from gristmill_worker.pipeline.pipeline import Pipeline
from gristmill_worker.pipeline.sink import Sink
from gristmill_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

Duties = Mapping[str, tuple[float, Callable[[], None]]]


def load_encoder(settings: WorkerSettings) -> Encoder:
    """The model of the settings, loaded and warm: its first batch is as fast as its last."""
    key = settings.remote_api_key
    encoder = open_encoder(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.dtype,
        pooling=settings.pooling,
        max_tokens=settings.max_tokens,
        budget_tokens=settings.budget_tokens,
        api_key=key.get_secret_value() if key else None,
    )
    encoder.encode(encoder.tokenize(["warm up", "预热 " * 64]))
    return encoder


class Engine:
    """Encodes queries at once, and parcels through the pipeline."""

    def __init__(
        self,
        settings: WorkerSettings,
        encoder: Encoder,
        ledger: Ledger,
        store: QdrantClient,
        collections: Collections,
        publish: Callable[[str, int], None],
        duties: Duties | None = None,
    ) -> None:
        """Start batcher and keeper; `duties` run periodically beside the leases."""
        self.encoder = encoder
        self.ledger = ledger
        self.draining = threading.Event()
        self.patience = Patience(self.draining)
        self.idle = IdleClock()
        self.batcher = Batcher(encoder, self.idle)
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self._started = time.time()
        self._settings = settings
        watchdog = exit_if_hung(lambda: self.batcher.busy_since, settings.encode_timeout_s)
        self.keeper = Keeper(
            ledger, self.worker_id, settings.lease_s, self.status, {"watchdog": (5.0, watchdog), **(duties or {})}
        )
        self.pipeline = Pipeline(
            ledger,
            collections,
            encoder,
            self.batcher,
            Sink(store, self.patience, self.idle),
            self.keeper,
            self.patience,
            self.idle,
            lease_s=settings.lease_s,
            max_attempts=settings.max_attempts,
            publish=publish,
        )

    def start(self) -> None:
        """Announce the model and begin to keep leases."""
        self.ledger.announce(self.encoder.info)
        self.keeper.start()

    def status(self) -> dict[str, Any]:
        """What this worker is and does, for heartbeats and `gristmill doctor`."""
        info = self.encoder.info
        return {
            "model": info.model,
            "model_digest": info.digest,
            "device": self.encoder.device,
            "dtype": self.encoder.dtype,
            "budget_tokens": self.encoder.budget_tokens,
            "started_at": self._started,
            "parcels": self.keeper.held,
            "queued_texts": self.batcher.queued_texts,
            "texts": self.batcher.texts_done,
            "tokens": self.batcher.tokens_done,
            "idle": {cause: round(seconds, 3) for cause, seconds in self.idle.seconds().items()},
            "waiting_for": self.patience.waiting_for,
        }

    def encode_queries(self, space: VectorSpace, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `gristmill.search.query_vectors.QueryEncoder.encode`; goes before all bulk work."""
        if space.model_digest != self.encoder.info.digest:
            raise SpaceMismatch(
                f"this process serves {self.encoder.info.model}, the collection wants {space.describe()}"
            )
        return self.encode_now(texts, space.dimensions, normalize=space.normalize)

    def encode_now(self, texts: Sequence[str], dimensions: int, *, normalize: bool) -> npt.NDArray[np.float32]:
        """Encode finished model input in the interactive lane: float32 (len(texts), dimensions)."""
        with self.idle.stage(Stage.TOKENS):
            tokenized = self.encoder.tokenize(list(texts))
        rows = self.batcher.submit(tokenized, Lane.INTERACTIVE).result()
        for row in rows:
            if isinstance(row, EncodingFailed):
                raise row
        vectors = np.stack([row for row in rows if not isinstance(row, EncodingFailed)])
        return cut(vectors, dimensions, normalize=normalize)

    def drain(self) -> None:
        """Stop waiting for servers that are away; what runs is finished."""
        self.draining.set()

    def close(self) -> None:
        """Stop the model and the keeper; whatever still waited goes back to the ledger."""
        self.drain()
        self.batcher.close()
        self.keeper.close()
        self.encoder.close()
