"""The query lane: takes query requests from their Redis list, encodes them before all bulk work, answers with raw floats.

A thread of its own, not a Celery task: a query must not wait until a bulk task frees a thread. It takes a request only while
what it holds will be answered in time (`holding`), so that a flood of them waits in Redis, where it is capped and other
workers find it, and not in this process. What it cannot answer after all goes back there.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import redis

from gristmill.ledger.clock import LedgerClock
from gristmill.ledger.connection import broker_errors
from gristmill.search.query_channel import LaneChannel, deadline_of, is_token
from gristmill.settings import ClientSettings
from gristmill_schemas import EncoderInfo, QueryRequest, RerankRequest
from gristmill_schemas.errors import (
    DeviceFailed,
    GristmillError,
    InvalidInput,
    NewerFormat,
    ShuttingDown,
    SpaceMismatch,
)
from gristmill_schemas.limits import MAX_REQUEST_BYTES
from gristmill_schemas.query import Status, pack_answer, pack_failure
from gristmill_worker.process.logs.refusals import RefusalLog
from gristmill_worker.process.queries.counts import QueryCounts
from gristmill_worker.process.queries.holding import Held, Holding
from gristmill_worker.vital_threads import Died, end_process, vital_thread
from gristmill_worker.waiting.notices import Notices, Waits

log = logging.getLogger(__name__)

#: An answer is kept as long as somebody waits for it, within these bounds.
_KEPT_S, _LONGEST_KEPT_S = 1.0, 60.0
#: One blocking read, and between two signs of life; short, so that closing is quick and silence means something.
_READ_S = 0.25
#: Between two tries while Redis is away.
_AWAY_S = 1.0
#: How long somebody waits for what came past the channel.
_UNKNOWN_WAIT_S = 10.0
#: Queries tokenized and waiting for the model at once. The batcher joins them into launches of `QUERY_TOKENS`: about so many
#: queries of ordinary length fill one.
_THREADS = 32
#: How long it is shown that queries came too late.
_SHOWN_S = 60.0
_MICROS = 1_000_000


#: Texts for a model that encodes, or pairs for a reranker.
Request = QueryRequest | RerankRequest


class Served(Protocol):
    """A model of this process that answers requests."""

    @property
    def reads(self) -> type[Request]:
        """The kind of request that it takes."""

    @property
    def info(self) -> EncoderInfo:
        """The model."""

    @property
    def sick(self) -> str | None:
        """Why it answers nothing any more; None while it is well."""

    def answer(self, request: Any) -> npt.NDArray[np.float32]:
        """The numbers of an answer, (texts, numbers of each)."""


class QueryLane:
    """Serves the list of requests of one model."""

    def __init__(
        self,
        settings: ClientSettings,
        connection: redis.Redis,
        served: Served,
        counts: QueryCounts,
        clock: LedgerClock,
        notices: Notices,
        draining: threading.Event,
        died: Died = end_process,
    ) -> None:
        self._served = served
        self._channel = LaneChannel(settings.key_prefix, connection, served.info.digest)
        self._clock = clock
        self._notices = notices
        place = f"query lane of {served.info.model}"
        self._refusals, self._expired = RefusalLog(place), RefusalLog(place, did="dropped")
        self._redis_url = settings.redis_url
        self._counts = counts
        self._draining = draining
        self._closing = threading.Event()
        self._holding = Holding(_THREADS)
        self._beat_at = 0.0
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
        while not self._ended:
            self._refusals.tell()
            self._expired.tell()
            try:
                with broker_errors(self._redis_url):
                    self._turn()
            except GristmillError as error:
                log.warning("query lane: %s", error)
                self._closing.wait(_AWAY_S)
        try:
            with broker_errors(self._redis_url):
                self._channel.leave()
        except GristmillError as error:
            log.warning("query lane: not signed off, others will notice: %s", error)

    @property
    def _leaving(self) -> bool:
        return self._closing.is_set() or self._draining.is_set()

    @property
    def _ended(self) -> bool:
        return self._leaving and not self._holding

    def _turn(self) -> None:
        """Say that this lane lives, as often as it must, and take a request, if one may be taken."""
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + _READ_S
            self._beat()
        if self._leaving or self._served.sick is not None or not self._holding.may_take():
            self._holding.wait(_READ_S) if self._holding else self._closing.wait(_READ_S)
        elif (body := self._channel.take(_READ_S)) is not None:
            self._pool.submit(self._serve, self._holding.add(body, self._waits_s(body)))

    def _beat(self) -> None:
        taken_over, held = self._channel.beat()
        if taken_over:
            log.warning("query lane: %d queries of a worker that fell silent are taken over", taken_over)
        if held > len(self._holding):
            for stray in self._channel.strays(self._holding.bodies()):
                self._channel.give_back(stray)
        for each in self._holding.overdue():
            self._give_back(each, "they took too long here")

    def _waits_s(self, body: bytes) -> float:
        deadline = deadline_of(body)
        return _UNKNOWN_WAIT_S if deadline is None else deadline - self._clock.now()

    def _give_back(self, held: Held, why: str) -> bool:
        """Leave it to another worker; False where that cannot be."""
        if not self._channel.give_back(held.body):
            return False
        held.given_back = True
        self._counts.add("given_back")
        said = f"queries go back to the queue for other workers: {why}"
        self._notices.put("queries given back", Waits.QUERIES, said, _SHOWN_S)
        return True

    def _serve(self, held: Held) -> None:
        encoded = False
        try:
            if (request := self._read(held)) is not None and not self._too_late(request, held):
                answer = self._answer(request, held)
                encoded = True
                if answer is not None:
                    waits_s = request.deadline_us / _MICROS - self._clock.now()
                    self._reply(held, request.token, answer, waits_s)
        except Exception:  # nobody looks at what a thread of the pool raises
            log.exception("query lane: an answer was lost")
        finally:
            self._holding.remove(held, encoded=encoded)

    def _read(self, held: Held) -> Request | None:
        body = held.body
        try:
            if len(body) > MAX_REQUEST_BYTES:
                raise InvalidInput(f"query: expected at most {MAX_REQUEST_BYTES} bytes, got {len(body)}")
            request: Request = self._served.reads.read_json(body)
            if request.asked_us:  # what came past the channel does not say
                self._counts.waits.observe(max(0.0, self._clock.now() - request.asked_us / _MICROS))
            return request
        except (InvalidInput, NewerFormat) as error:
            self._counts.add("refused")
            self._refusals.add(str(error))
            if (token := _token_of(body)) is None:
                self._drop(held)
            else:
                self._reply(held, token, pack_failure(f"the worker refused it: {error}", Status.REFUSED))
            return None

    def _too_late(self, request: Request, held: Held) -> bool:
        deadline = request.deadline_us / _MICROS
        # Asked for exactly before anything is dropped: the clock of a server that took over may be another.
        if self._clock.now() <= deadline or (now := self._clock.exactly()) <= deadline:
            return False
        self._drop(held)
        late_s = now - deadline
        self._expired.add(f"{late_s:.1f} s after whoever asked had given up")
        self._notices.put(
            "late queries",
            Waits.QUERIES,
            f"{self._counts.add('expired')} queries were taken only after whoever asked had given up, the last of them "
            f"{late_s:.1f} s too late: start another worker, or raise GRISTMILL_QUERY_TIMEOUT_S",
            for_s=_SHOWN_S,
        )
        return True

    def _answer(self, request: Request, held: Held) -> bytes | None:
        """The answer; None where another worker is to give it."""
        try:
            self._check_model(request)
            with self._counts.answers.timing():
                numbers = self._served.answer(request)
            self._counts.add("answered")
            return pack_answer(np.ascontiguousarray(numbers, dtype="<f4").tobytes(), *numbers.shape)
        except SpaceMismatch as error:
            self._counts.add("refused")
            self._refusals.add(str(error))
            return pack_failure(str(error), Status.REFUSED)
        except (ShuttingDown, DeviceFailed) as error:
            return None if self._returned(held, str(error)) else pack_failure(str(error))
        except GristmillError as error:
            return pack_failure(str(error))
        except BaseException as error:  # a tokenizer may panic; whoever asked must hear of it
            log.exception("query lane: a query failed")
            return pack_failure(f"{type(error).__name__}: {error}")

    def _returned(self, held: Held, why: str) -> bool:
        try:
            with broker_errors(self._redis_url):
                return self._give_back(held, why)
        except GristmillError as error:
            log.warning("query lane: a query was not given back: %s", error)
            return False

    def _drop(self, held: Held) -> None:
        try:
            with broker_errors(self._redis_url):
                self._channel.drop(held.body)
        except GristmillError as error:
            log.warning("query lane: %s", error)

    def _reply(self, held: Held, token: str, answer: bytes, waits_s: float = _LONGEST_KEPT_S) -> None:
        try:
            with broker_errors(self._redis_url):
                taken = self._channel.answer(held.body, token, answer, min(max(waits_s, _KEPT_S), _LONGEST_KEPT_S))
            if not taken:
                self._refusals.add("token: expected one that was never used, got one that has an answer")
        except GristmillError as error:
            log.warning("query lane: an answer was lost: %s", error)

    def _check_model(self, request: Request) -> None:
        info = self._served.info
        if request.model_digest != info.digest:
            raise SpaceMismatch(
                f"model_digest: expected {info.digest!r}, since it came to the lane of {info.model}, got "
                f"{request.model_digest!r}: what two models give cannot be compared"
            )


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
