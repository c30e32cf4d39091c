"""An engine: all that a process has once per model. Encoder, batcher, pipeline; parcels and queries of that model go in.

What a process has once, whatever it serves, is `Commons`: the host makes it and hands it to each engine.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gristmill.ingest.broker import MESSAGE_S, PARCELS_PER_MESSAGE
from gristmill.ledger import Claim
from gristmill_schemas import EncoderInfo, QueryRequest, VectorSpace
from gristmill_schemas.errors import EncodingFailed, SpaceMismatch
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.idle_clock import AWAY, IdleClock, Stage
from gristmill_worker.batching.submission import Lane, stacked
from gristmill_worker.encoder import Encoder, cut, open_encoder
from gristmill_worker.encoder.base import REMOTE
from gristmill_worker.metering.meter import ModelMeter, Source
from gristmill_worker.phases import phase
from gristmill_worker.pipeline.commons import Commons
from gristmill_worker.pipeline.handler import Handled, Handler
from gristmill_worker.pipeline.pipeline import Pipeline
from gristmill_worker.pipeline.prepare import Preparer
from gristmill_worker.pipeline.sink import Sink
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting.fuse import Fuse
from gristmill_worker.waiting.in_hand import InHand
from gristmill_worker.waiting.notices import Waits
from gristmill_worker.waiting.patience import Patience


def load_encoder(settings: WorkerSettings) -> Encoder:
    """The model of the settings, loaded; the batcher's first look at its canary warms it up.

    Raises:
        ModelUnavailable, InvalidInput: the settings cannot work.
        Unavailable: a model server stayed away for as long as the settings wait for it.
    """
    return Patience(threading.Event()).call(lambda: _open(settings), at_most_s=settings.remote_wait_s)


def _open(settings: WorkerSettings) -> Encoder:
    key = settings.remote_api_key
    return open_encoder(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.dtype,
        pooling=settings.pooling,
        max_tokens=settings.max_tokens,
        budget_tokens=settings.budget_tokens,
        api_key=key.get_secret_value() if key else None,
        trust_remote_code=settings.trust_remote_code,
    )


class Engine:
    """Encodes queries at once, and parcels, as its ledger hands them out, through the pipeline."""

    reads = QueryRequest

    def __init__(self, encoder: Encoder, commons: Commons) -> None:
        self.encoder = encoder
        self._notices = commons.notices
        self.idle = IdleClock(self._away)
        self.meter = ModelMeter()
        with phase(f"warming up {encoder.info.model} on {encoder.device}"):
            self.batcher = Batcher(encoder, self.idle, self.meter)
        self._fuse = Fuse(commons.notices)
        self._leases = commons.leases
        workers = functools.partial(commons.workers, self.digest)
        self._in_hand = InHand(lambda: self.batcher.tokens_per_s, workers)
        sink = Sink(commons.store, commons.patience, self.idle, commons.server_wait_s, self.meter)
        preparer = Preparer(
            encoder,
            self.batcher,
            commons.patience,
            self.idle,
            commons.clock,
            commons.server_wait_s,
            self._encoded,
            self.meter,
            ready=self._in_hand.ready,
        )
        pipeline = Pipeline(commons, preparer, sink, self.meter)
        self._handler = Handler(self.digest, commons, pipeline, self._fuse, self._in_hand, self.meter)
        self._draining = commons.patience.draining
        self._busy = 0
        self._lock = threading.Lock()

    @property
    def info(self) -> EncoderInfo:
        """The model."""
        return self.encoder.info

    @property
    def sick(self) -> str | None:
        """Why nothing is encoded any more; None while the device is well."""
        return self.batcher.sick

    @property
    def digest(self) -> str:
        """Names the model, its queue and its query lane."""
        return self.encoder.info.digest

    @property
    def busy(self) -> int:
        """Task threads at work for this model."""
        return self._busy

    @property
    def willing(self) -> bool:
        """Whether work makes sense now: the device is well, no fuse has blown, and what it needs is not away."""
        return self.batcher.sick is None and not self._fuse.resting and not self._handler.pause.lasts

    def _encoded(self, claim: Claim, tokens: int) -> None:
        self._leases.encoded(claim, tokens)
        self._in_hand.encoded(claim, tokens)

    def _away(self) -> str | None:
        """The server that is waited for. Another model's is none of this one's business."""
        waits = self._notices.waits() - (set() if self.encoder.device == REMOTE else {Waits.MODEL_SERVER})
        return next((server for server in AWAY if server in waits), None)

    @property
    def has_room(self) -> bool:
        """Whether another parcel makes sense beside those in hand.

        What is in hand is encoded before anything that comes later, however urgent, and by nobody else. So a slow device
        has no more than some seconds of work; see `InHand`.
        """
        return self._has_room(self._busy)

    def _has_room(self, threads: int) -> bool:
        return self._in_hand.has_room(threads, self.encoder.limits.in_flight)

    @property
    def has_its_share(self) -> bool:
        """Whether what waits is for other workers."""
        return self._handler.share.reached

    def process(self) -> Handled:
        """Bring parcels of this model to their ends, as many as a message stands for, while any wait.

        Returns:
            LATER: the message is needed again, since a parcel was put back, this process takes no more, they take so long
                that others should have their turn, or this one has its share.
        """
        with self._lock:
            self._busy += 1
        try:
            until = time.monotonic() + MESSAGE_S
            for _ in range(PARCELS_PER_MESSAGE - 1):
                handled = self._handler.process()
                if handled is Handled.CUT:
                    continue
                if handled is not Handled.DONE:
                    return handled
                if self._draining.is_set() or not self.willing or time.monotonic() >= until:
                    return Handled.LATER
                # Beside those of the other threads: this one has nothing in hand.
                if not self._has_room(self._busy - 1):
                    return Handled.LATER
            handled = self._handler.process()
            return Handled.LATER if handled is Handled.CUT else handled
        finally:
            with self._lock:
                self._busy -= 1

    def encode_queries(
        self, space: VectorSpace, texts: Sequence[str], *, bulk: bool = False
    ) -> npt.NDArray[np.float32]:
        """See `gristmill.search.query_vectors.QueryEncoder.encode`; goes before all bulk work, unless it is `bulk`."""
        if space.model_digest != self.digest:
            raise SpaceMismatch(
                f"this process serves {self.encoder.info.model}, the collection wants {space.describe()}"
            )
        lane = Lane.BULK if bulk else Lane.INTERACTIVE
        return self.encode_now(texts, space.dimensions, normalize=space.normalize, lane=lane)

    def answer(self, request: QueryRequest) -> npt.NDArray[np.float32]:
        """The vectors of a request; see `encode_now`."""
        lane = Lane.BULK if request.bulk else Lane.INTERACTIVE
        return self.encode_now(request.texts, request.dimensions, normalize=request.normalize, lane=lane)

    def encode_now(
        self, texts: Sequence[str], dimensions: int, *, normalize: bool, lane: Lane = Lane.INTERACTIVE
    ) -> npt.NDArray[np.float32]:
        """Encode finished model input for whoever waits for it: float32 (len(texts), dimensions).

        Raises:
            EncodingFailed: a text is longer than the model's window, and nothing is cut silently; or it cannot be encoded.
            DeviceFailed, Unavailable, ShuttingDown: see `Batcher.submit`.
        """
        with self.idle.stage(Stage.TOKENS):
            tokenized = self.encoder.tokenize(list(texts))
        info = self.encoder.info
        for position, text in enumerate(tokenized):
            if text.truncated:
                raise EncodingFailed(
                    f"text {position}: expected at most {text.n_tokens} tokens, its template included, which is the "
                    f"window of {info.model}; got more: shorten it",
                    model=info.model,
                )
        reading = self.meter.reading(Source.INTERACTIVE)
        rows = self.batcher.submit(tokenized, lane, launched=reading.launched).result()
        reading.done(len(rows), sum(text.n_tokens for text in tokenized))
        vectors = stacked(rows, self.encoder.info.dimensions)
        return cut(vectors, dimensions, normalize=normalize)

    def status(self) -> dict[str, Any]:
        """What this engine is and does, for heartbeats and `gristmill doctor`."""
        info = self.encoder.info
        return {
            "model": info.model,
            "model_digest": info.digest,
            "device": self.encoder.device,
            "dtype": self.encoder.dtype,
            "budget_tokens": self.batcher.budget_tokens,
            "busy": self._busy,
            "batch_s": self.batcher.batch_s,
            "queued_texts": self.batcher.queued_texts,
            "texts": self.batcher.texts_done,
            "tokens": self.batcher.tokens_done,
            "batches": self.batcher.batches_done,
            "tokens_per_s": self.batcher.tokens_per_s,
            "launch_ms": self.batcher.launch_ms,
            "idle": {cause: round(seconds, 3) for cause, seconds in self.idle.seconds().items()},
        }

    def close(self) -> None:
        """Stop the model; whatever still waited for it goes back to the ledger."""
        self.batcher.close()
        self.encoder.close()
