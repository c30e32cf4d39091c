"""The query lane: takes query requests from their Redis list, encodes them before all bulk work, answers with raw floats.

A thread of its own, not a Celery task: a query must not wait until a bulk task frees a thread.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import redis

from gristmill.search.query_vectors import query_queue
from gristmill.settings import ClientSettings
from gristmill_schemas import QueryRequest
from gristmill_schemas.errors import GristmillError, InvalidInput, NewerFormat, SpaceMismatch
from gristmill_schemas.query import Status, pack_answer, pack_failure
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.vital_threads import Died, end_process, vital_thread

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
            request = QueryRequest.read_json(body)
        except (InvalidInput, NewerFormat) as error:
            log.warning("query lane: refused a request: %s", error)
            if reply_to := _reply_to(body):
                self._reply(reply_to, pack_failure(f"the worker refused it: {error}", Status.REFUSED))
            return
        if request.deadline < time.time():
            return
        try:
            vectors = self._encode(request)
            answer = pack_answer(np.ascontiguousarray(vectors, dtype="<f4").tobytes(), *vectors.shape)
        except SpaceMismatch as error:
            answer = pack_failure(str(error), Status.REFUSED)
        except GristmillError as error:
            answer = pack_failure(str(error))
        except BaseException as error:  # a tokenizer may panic; whoever asked must hear of it
            log.exception("query lane: a query failed")
            answer = pack_failure(f"{type(error).__name__}: {error}")
        self._reply(request.reply_to, answer)

    def _reply(self, reply_to: str, answer: bytes) -> None:
        try:
            pipe = self._redis.pipeline(transaction=True)
            pipe.rpush(reply_to, answer)
            pipe.expire(reply_to, _REPLY_TTL_S)
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


def _reply_to(body: bytes) -> str | None:
    """Where an answer is waited for, of a request that cannot be read any further."""
    try:
        request: Any = json.loads(body)
    except ValueError:
        return None
    reply_to = request.get("reply_to") if isinstance(request, dict) else None
    return reply_to if isinstance(reply_to, str) and ":reply:" in reply_to else None
