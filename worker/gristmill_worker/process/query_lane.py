"""The query lane: takes query requests from their Redis list, encodes them before all bulk work, answers with raw floats.

A thread of its own, not a Celery task: a query must not wait until a bulk task frees a thread. It takes a request only while
one of its own threads is free, so that a flood of them waits in Redis, where it is capped, and not in this process.
"""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import redis

from gristmill.ledger.clock import LedgerClock
from gristmill.ledger.connection import broker_errors
from gristmill.search.query_channel import QueryChannel, is_token
from gristmill.settings import ClientSettings
from gristmill_schemas import QueryRequest
from gristmill_schemas.errors import GristmillError, InvalidInput, NewerFormat, SpaceMismatch
from gristmill_schemas.limits import MAX_REQUEST_BYTES
from gristmill_schemas.query import Status, pack_answer, pack_failure
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.process.refusal_log import RefusalLog
from gristmill_worker.vital_threads import Died, end_process, vital_thread
from gristmill_worker.waiting.notices import Notices

log = logging.getLogger(__name__)

#: An answer is kept as long as somebody waits for it, within these bounds.
_KEPT_S, _LONGEST_KEPT_S = 1.0, 60.0
#: One blocking read; short, so that closing is quick.
_READ_S = 1.0
#: Queries tokenized and waiting for the model at once. The batcher joins them into launches of `QUERY_TOKENS`: about so many
#: queries of ordinary length fill one.
_THREADS = 32
#: How long it is shown that queries came too late.
_SHOWN_S = 60.0
_MICROS = 1_000_000


class QueryLane:
    """Serves the query list of one model."""

    def __init__(
        self,
        settings: ClientSettings,
        connection: redis.Redis,
        engine: Engine,
        clock: LedgerClock,
        notices: Notices,
        died: Died = end_process,
    ) -> None:
        self._engine = engine
        self._channel = QueryChannel(settings.key_prefix, connection)
        self._clock = clock
        self._notices = notices
        self._refusals = RefusalLog(f"query lane of {engine.encoder.info.model}")
        self._redis_url = settings.redis_url
        self._late = 0
        self._closing = threading.Event()
        self._free = threading.Semaphore(_THREADS)
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
            self._refusals.tell()
            if self._free.acquire(timeout=_READ_S):
                if (body := self._take()) is None:
                    self._free.release()
                else:
                    self._pool.submit(self._serve, body)

    def _take(self) -> bytes | None:
        try:
            with broker_errors(self._redis_url):
                return self._channel.take(self._engine.digest, _READ_S)
        except GristmillError as error:
            log.warning("query lane: %s", error)
            self._closing.wait(_READ_S)
            return None

    def _serve(self, body: bytes) -> None:
        try:
            if (request := self._read(body)) is not None and not self._too_late(request):
                self._reply(request.token, self._answer(request), request.deadline_us / _MICROS - self._clock.now())
        except Exception:  # nobody looks at what a thread of the pool raises
            log.exception("query lane: an answer was lost")
        finally:
            self._free.release()

    def _read(self, body: bytes) -> QueryRequest | None:
        try:
            if len(body) > MAX_REQUEST_BYTES:
                raise InvalidInput(f"query: expected at most {MAX_REQUEST_BYTES} bytes, got {len(body)}")
            return QueryRequest.read_json(body)
        except (InvalidInput, NewerFormat) as error:
            self._refusals.add(str(error))
            if (token := _token_of(body)) is not None:
                self._reply(token, pack_failure(f"the worker refused it: {error}", Status.REFUSED))
            return None

    def _too_late(self, request: QueryRequest) -> bool:
        deadline = request.deadline_us / _MICROS
        # Asked for exactly before anything is dropped: the clock of a server that took over may be another.
        if self._clock.now() <= deadline or (now := self._clock.exactly()) <= deadline:
            return False
        self._late += 1
        self._notices.put(
            "late queries",
            f"{self._late} queries were taken only after whoever asked had given up, the last of them "
            f"{now - deadline:.1f} s too late: start another worker, or raise GRISTMILL_QUERY_TIMEOUT_S",
            for_s=_SHOWN_S,
        )
        return True

    def _answer(self, request: QueryRequest) -> bytes:
        try:
            vectors = self._encode(request)
            return pack_answer(np.ascontiguousarray(vectors, dtype="<f4").tobytes(), *vectors.shape)
        except SpaceMismatch as error:
            return pack_failure(str(error), Status.REFUSED)
        except GristmillError as error:
            return pack_failure(str(error))
        except BaseException as error:  # a tokenizer may panic; whoever asked must hear of it
            log.exception("query lane: a query failed")
            return pack_failure(f"{type(error).__name__}: {error}")

    def _reply(self, token: str, answer: bytes, waits_s: float = _LONGEST_KEPT_S) -> None:
        try:
            with broker_errors(self._redis_url):
                taken = self._channel.answer(token, answer, min(max(waits_s, _KEPT_S), _LONGEST_KEPT_S))
            if not taken:
                self._refusals.add("token: expected one that was never used, got one that has an answer")
        except GristmillError as error:
            log.warning("query lane: an answer was lost: %s", error)

    def _encode(self, request: QueryRequest) -> npt.NDArray[np.float32]:
        if request.model_digest != self._engine.digest:
            raise SpaceMismatch(
                f"model_digest: expected {self._engine.digest!r}, since it came to the lane of "
                f"{self._engine.encoder.info.model}, got {request.model_digest!r}: vectors of two models cannot be compared"
            )
        return self._engine.encode_now(request.texts, request.dimensions, normalize=request.normalize)


def _token_of(body: bytes) -> str | None:
    """Names the answer to a request that cannot be read any further; None where it cannot be told."""
    if len(body) > MAX_REQUEST_BYTES:
        return None
    try:
        request: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    token = request.get("token") if isinstance(request, dict) else None
    return token if is_token(token) else None
