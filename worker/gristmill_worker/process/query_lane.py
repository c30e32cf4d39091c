"""The query lane: takes query requests from their Redis list, encodes them before all bulk work, answers with raw floats.

A thread of its own, not a Celery task: a query must not wait until a bulk task frees a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import numpy.typing as npt
import redis
from pydantic import ValidationError

from gristmill.search.query_vectors import encode_failure, encode_reply, query_queue
from gristmill.settings import ClientSettings
from gristmill_schemas import QueryRequest
from gristmill_schemas.errors import GristmillError, SpaceMismatch
from gristmill_schemas.validation import explain
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.vital import Died, end_process, vital_thread

log = logging.getLogger(__name__)

#: An answer that nobody fetched is forgotten after this.
_REPLY_TTL_S = 60
#: One blocking read; short, so that closing is quick.
_READ_S = 1.0
#: Queries tokenized and waiting for the model at once. The batcher joins them into one batch.
_THREADS = 8


class QueryLane:
    """Serves the query list of one model."""

    def __init__(
        self, settings: ClientSettings, connection: redis.Redis, engine: Engine, died: Died = end_process
    ) -> None:
        self._engine = engine
        self._redis = connection
        self._queue = query_queue(settings.key_prefix, engine.digest)
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="gristmill-query")
        self._thread = vital_thread("gristmill-query-lane", self._run, died)

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def close(self) -> None:
        """Finish the queries that were taken, take no more."""
        self._closing.set()
        self._thread.join()
        self._pool.shutdown(wait=True)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                taken = cast("tuple[bytes, bytes] | None", self._redis.brpop([self._queue], timeout=_READ_S))
            except redis.RedisError as error:
                log.warning("query lane: %s", error)
                self._closing.wait(_READ_S)
                continue
            if taken is not None:
                self._pool.submit(self._answer, taken[1])

    def _answer(self, body: bytes) -> None:
        try:
            request = QueryRequest.model_validate_json(body)
        except ValidationError as error:
            log.warning("query lane: refused a request: %s", explain(error))
            return
        if request.deadline < time.time():
            return
        try:
            answer = encode_reply(self._encode(request))
        except GristmillError as error:
            answer = encode_failure(str(error))
        except BaseException as error:  # a tokenizer may panic; whoever asked must hear of it
            log.exception("query lane: a query failed")
            answer = encode_failure(f"{type(error).__name__}: {error}")
        try:
            pipe = self._redis.pipeline(transaction=True)
            pipe.rpush(request.reply_to, answer)
            pipe.expire(request.reply_to, _REPLY_TTL_S)
            pipe.execute()
        except redis.RedisError as error:
            log.warning("query lane: an answer was lost: %s", error)

    def _encode(self, request: QueryRequest) -> npt.NDArray[np.float32]:
        if request.model_digest != self._engine.digest:
            raise SpaceMismatch(
                f"this query is for the model {request.model_digest!r} and came to the lane of "
                f"{self._engine.encoder.info.model} ({self._engine.digest}): vectors of two models cannot be compared"
            )
        return self._engine.encode_now(request.texts, request.dimensions, normalize=request.normalize)
