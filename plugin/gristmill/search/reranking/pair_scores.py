"""Scores for an application that has no model: asked of a worker through the query list of its reranker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import redis

from gristmill.ledger import Ledger
from gristmill.ledger.connection import broker_errors
from gristmill.models import is_served
from gristmill.search.query_channel import QueryChannel, new_token
from gristmill.search.query_vectors import in_requests
from gristmill.settings import ClientSettings
from gristmill_schemas import EncoderInfo, RerankRequest
from gristmill_schemas.errors import InvalidInput, NoWorker, WaitTimeout
from gristmill_schemas.limits import MAX_REQUEST_TEXT_BYTES
from gristmill_schemas.query import SCORE_COLUMNS, unpack_answer

#: A waiting client looks this often whether anybody serves the reranker at all.
_LOOK_S = 1.0

#: float32, shape (N, 2): see `gristmill_schemas.query`.
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pairs:
    """One query and the texts to score against it."""

    query: str
    documents: Sequence[str]
    instruction: str | None = None


class PairScorer(Protocol):
    """Scores texts against queries."""

    def require(self, reranker: EncoderInfo) -> None:
        """Raise NoWorker where nobody serves the reranker now."""

    def score(self, reranker: EncoderInfo, asked: Sequence[Pairs]) -> list[Scores]:
        """One array for each query, one row per text, in order.

        Raises:
            NoWorker: nobody serves the reranker.
            WaitTimeout: somebody does, but not all answers came in time.
            EncodingFailed: a pair could not be scored.
        """


class WorkerScores:
    """`PairScorer` that asks a worker. All requests are sent before any answer is waited for."""

    def __init__(self, settings: ClientSettings, client: redis.Redis, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._channel = QueryChannel(settings.key_prefix, client)

    def score(self, reranker: EncoderInfo, asked: Sequence[Pairs]) -> list[Scores]:
        """See `PairScorer.score`."""
        until = time.monotonic() + self._settings.rerank_timeout_s
        requests = [list(_requests(reranker, each)) for each in asked]
        with broker_errors(self._settings.redis_url):
            for each in requests:
                for request in each:
                    self._channel.ask(request, self._settings.rerank_timeout_s)
            return [self._joined(reranker, each, until) for each in requests]

    def _joined(self, reranker: EncoderInfo, requests: Sequence[RerankRequest], until: float) -> Scores:
        parts = [
            scores_of(self._wait(reranker, request.token, until), len(request.documents), reranker)
            for request in requests
        ]
        return np.concatenate(parts) if parts else np.empty((0, SCORE_COLUMNS), dtype=np.float32)

    def _wait(self, reranker: EncoderInfo, token: str, until: float) -> bytes:
        while (left := until - time.monotonic()) > 0:
            if (answer := self._channel.fetch(token, max(0.05, min(left, _LOOK_S)))) is not None:
                return answer
            self.require(reranker)
        raise WaitTimeout(
            f"not all scores within {self._settings.rerank_timeout_s:g} s, though a worker serves {reranker.model}: rerank "
            "fewer candidates (rerank_top), give the reranker an accelerator or another worker, or raise "
            "GRISTMILL_RERANK_TIMEOUT_S",
            model=reranker.model,
        )

    def require(self, reranker: EncoderInfo) -> None:
        """See `PairScorer.require`."""
        if not is_served(self._ledger, reranker.digest):
            raise NoWorker(
                f"rerank: no running worker serves {reranker.model}; start one: `gristmill worker --reranker "
                f"{reranker.model}`",
                field="rerank",
                model=reranker.model,
            )


def _requests(reranker: EncoderInfo, asked: Pairs) -> Iterator[RerankRequest]:
    """As many texts to a request as fit into it, beside query and instruction."""
    beside = len(asked.query.encode()) + len((asked.instruction or "").encode())
    for part in in_requests(asked.documents, MAX_REQUEST_TEXT_BYTES - beside):
        yield RerankRequest(
            token=new_token(),
            model_digest=reranker.digest,
            query=asked.query,
            instruction=asked.instruction,
            documents=tuple(part),
        )


def scores_of(body: bytes, texts: int, reranker: EncoderInfo) -> Scores:
    """An answer's scores. Raises InvalidInput where they are not those of so many texts."""
    answer = unpack_answer(body)
    if (answer.texts, answer.dimensions) != (texts, SCORE_COLUMNS):
        raise InvalidInput(
            f"the answer of {reranker.model}: expected {SCORE_COLUMNS} numbers for each of {texts} texts, got "
            f"{answer.dimensions} for {answer.texts}"
        )
    return np.frombuffer(answer.floats, dtype="<f4").reshape(texts, SCORE_COLUMNS)
