"""Query vectors for an application that has no model: asked of a worker through a queue of its own.

A plain Redis list per model and not a Celery queue: a query must not wait for a free task thread behind bulk work, and
its answer is raw float32, not JSON. Whoever reads the list puts the query into the batcher's interactive lane.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt
import redis

from gristmill.ledger import Ledger
from gristmill.ledger.connection import broker_errors
from gristmill.models import is_served
from gristmill.search.query_channel import QueryChannel, new_token
from gristmill.settings import ClientSettings
from gristmill_schemas import QueryRequest, VectorSpace
from gristmill_schemas.errors import NoWorker, SpaceMismatch, WaitTimeout
from gristmill_schemas.limits import MAX_QUERY_TEXTS, MAX_REQUEST_TEXT_BYTES
from gristmill_schemas.query import QueryAnswer, unpack_answer

#: A waiting client looks this often whether anybody serves its model at all.
_LOOK_S = 1.0
#: Who takes queries says several times a second that it does; of silence for so long the roster of workers is asked.
_HEARD_S = 3.0
#: Requests of bulk work that wait together: a batch of documents may hold more than one request does.
_AT_ONCE = 8


class QueryEncoder(Protocol):
    """Turns finished model input into vectors."""

    def encode(self, space: VectorSpace, texts: Sequence[str], *, bulk: bool = False) -> npt.NDArray[np.float32]:
        """Encode texts (templates already applied) in `space`.

        Args:
            space: of the collection.
            texts: finished model input.
            bulk: at the pace of documents, not before them: behind queries, in batches as full as they come.

        Returns:
            float32 (len(texts), space.dimensions), normalised where the space is.

        Raises:
            NoWorker: nobody serves the space's model.
            WaitTimeout: somebody does, but the answer did not come in time.
            EncodingFailed: the model could not encode a text.
        """


class WorkerQueryEncoder:
    """`QueryEncoder` that asks a worker."""

    def __init__(self, settings: ClientSettings, client: redis.Redis, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._channel = QueryChannel(settings.key_prefix, client)

    def encode(self, space: VectorSpace, texts: Sequence[str], *, bulk: bool = False) -> npt.NDArray[np.float32]:
        """See `QueryEncoder.encode`."""
        parts = iter(in_requests(texts, MAX_REQUEST_TEXT_BYTES))
        vectors = []
        while asked := [self._ask(space, part, bulk=bulk) for part in islice(parts, _AT_ONCE if bulk else 1)]:
            vectors += [self._answer(request, space) for request in asked]
        return np.concatenate(vectors)

    def _ask(self, space: VectorSpace, texts: Sequence[str], *, bulk: bool) -> QueryRequest:
        request = QueryRequest(
            token=new_token(),
            model_digest=space.model_digest,
            dimensions=space.dimensions,
            normalize=space.normalize,
            texts=tuple(texts),
            bulk=bulk,
        )
        with broker_errors(self._settings.redis_url):
            if not self._channel.ask(request, self._settings.query_timeout_s, _HEARD_S):
                self._require_worker(space)
                self._channel.ask(request, self._settings.query_timeout_s)
        return request

    def _answer(self, request: QueryRequest, space: VectorSpace) -> npt.NDArray[np.float32]:
        with broker_errors(self._settings.redis_url):
            body = self._wait(request.token, space)
        return vectors_of(unpack_answer(body), space, len(request.texts))

    def _wait(self, token: str, space: VectorSpace) -> bytes:
        until = time.monotonic() + self._settings.query_timeout_s
        while (left := until - time.monotonic()) > 0:
            if (answer := self._channel.fetch(token, max(0.05, min(left, _LOOK_S)))) is not None:
                return answer
            self._require_worker(space)
        raise WaitTimeout(
            f"no vector for the query within {self._settings.query_timeout_s:g} s, though a worker serves "
            f"{space.model}: it is overloaded or stuck (`gristmill doctor`), or raise GRISTMILL_QUERY_TIMEOUT_S",
            model=space.model,
        )

    def _require_worker(self, space: VectorSpace) -> None:
        if is_served(self._ledger, space.model_digest):
            return
        raise NoWorker(
            f"no running worker serves {space.describe()}; start one: `gristmill worker --model {space.model}`",
            model=space.model,
        )


def in_requests(texts: Sequence[str], most_bytes: int) -> Iterator[list[str]]:
    """The texts in order, as many to a request as fit into it; one that is larger has one to itself."""
    part: list[str] = []
    size = 0
    for each in texts:
        cost = len(each.encode())
        if part and (len(part) == MAX_QUERY_TEXTS or size + cost > most_bytes):
            yield part
            part, size = [], 0
        part.append(each)
        size += cost
    if part:
        yield part


def vectors_of(answer: QueryAnswer, space: VectorSpace, texts: int) -> npt.NDArray[np.float32]:
    """An answer's vectors, float32 (texts, dimensions). Raises SpaceMismatch where they are others."""
    if (answer.texts, answer.dimensions) != (texts, space.dimensions):
        raise SpaceMismatch(
            f"the answer to a query: expected {texts} vectors of {space.describe()}, got {answer.texts} of "
            f"{answer.dimensions} dimensions"
        )
    return np.frombuffer(answer.floats, dtype="<f4").reshape(answer.texts, answer.dimensions).astype(np.float32)
