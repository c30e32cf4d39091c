"""Query vectors for an application that has no model: asked of a worker through a queue of its own.

A plain Redis list per model and not a Celery queue: a query must not wait for a free task thread behind bulk work, and
its answer is raw float32, not JSON. Whoever reads the list puts the query into the batcher's interactive lane.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import redis

from gristmill.ledger import Ledger
from gristmill.ledger.connection import broker_errors
from gristmill.models import is_served
from gristmill.settings import ClientSettings
from gristmill_schemas import QueryRequest, VectorSpace
from gristmill_schemas.errors import NoWorker, SpaceMismatch, WaitTimeout
from gristmill_schemas.query import QueryAnswer, unpack_answer

#: A waiting client looks this often whether anybody serves its model at all.
_LOOK_S = 1.0
#: Requests that nobody takes vanish with their list.
_QUEUE_TTL_S = 120


class QueryEncoder(Protocol):
    """Turns finished model input into vectors."""

    def encode(self, space: VectorSpace, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Encode texts (templates already applied) in `space`.

        Returns:
            float32 (len(texts), space.dimensions), normalised where the space is.

        Raises:
            NoWorker: nobody serves the space's model.
            WaitTimeout: somebody does, but the answer did not come in time.
            EncodingFailed: the model could not encode a text.
        """


def query_queue(key_prefix: str, model_digest: str) -> str:
    """Redis list of the query requests for one model."""
    return f"{key_prefix}:queries:{model_digest[:16]}"


class WorkerQueryEncoder:
    """`QueryEncoder` that asks a worker."""

    def __init__(self, settings: ClientSettings, client: redis.Redis, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._redis = client

    def encode(self, space: VectorSpace, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `QueryEncoder.encode`."""
        reply_to = f"{self._settings.key_prefix}:reply:{uuid.uuid4().hex}"
        request = QueryRequest(
            reply_to=reply_to,
            model_digest=space.model_digest,
            dimensions=space.dimensions,
            normalize=space.normalize,
            texts=tuple(texts),
            # The wall clock: good to a second or so between machines, and only used to drop what nobody waits for.
            deadline=time.time() + self._settings.query_timeout_s,
        )
        queue = query_queue(self._settings.key_prefix, space.model_digest)
        with broker_errors(self._settings.redis_url):
            pipe = self._redis.pipeline(transaction=False)
            pipe.lpush(queue, request.model_dump_json())
            pipe.expire(queue, _QUEUE_TTL_S)
            pipe.execute()
            body = self._wait(reply_to, space)
        return vectors_of(unpack_answer(body), space)

    def _wait(self, reply_to: str, space: VectorSpace) -> bytes:
        until = time.monotonic() + self._settings.query_timeout_s
        while (left := until - time.monotonic()) > 0:
            answer = cast(
                "tuple[bytes, bytes] | None", self._redis.blpop([reply_to], timeout=max(0.05, min(left, _LOOK_S)))
            )
            if answer is not None:
                return answer[1]
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


def vectors_of(answer: QueryAnswer, space: VectorSpace) -> npt.NDArray[np.float32]:
    """An answer's vectors, float32 (texts, dimensions). Raises SpaceMismatch where they are not of the space's size."""
    if answer.dimensions != space.dimensions:
        raise SpaceMismatch(f"the query's vector has {answer.dimensions} dimensions, expected {space.describe()}")
    return np.frombuffer(answer.floats, dtype="<f4").reshape(answer.texts, answer.dimensions).astype(np.float32)
