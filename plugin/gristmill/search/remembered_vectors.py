"""Query vectors that were asked for before: the same text in the same space is not encoded again.

The key is the vector space and the finished model input, to the letter, so that instruction, lens and template are part of
it, and a collection that changes its space finds nothing of the former one. What is only alike is encoded.
Threads that ask for the same text at once ask a worker once.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from gristmill.search.query_vectors import QueryEncoder
from gristmill_schemas import VectorSpace

#: float32 (D,).
_Vector = npt.NDArray[np.float32]
#: Fingerprint of the space, and a digest of the text: a text may have 64 KiB.
_Key = tuple[str, bytes]
#: Bytes of an entry beside its numbers: two objects for key and array, and their places in two mappings.
_ENTRY_BYTES = 400


@dataclass(frozen=True, slots=True)
class QueryCacheInfo:
    """What a client remembers of the queries that it has had encoded."""

    #: Texts whose vector was there already, or on its way for another thread.
    hits: int
    #: Texts that a worker was asked for. Both stay 0 where nothing is remembered.
    misses: int
    #: Vectors that are there now.
    vectors: int
    #: What they take, and what they may; 0 means that nothing is remembered.
    bytes: int
    max_bytes: int


class RememberedVectors:
    """`QueryEncoder` in front of another one. Shared by all threads of a client."""

    def __init__(self, encoder: QueryEncoder, max_bytes: int) -> None:
        """`max_bytes`: of all that is remembered, the vectors that were not asked for the longest make room; 0 is off."""
        self._encoder = encoder
        self._known: LRUCache[_Key, _Vector] = LRUCache(max_bytes, getsizeof=_size)
        self._flights: dict[_Key, Future[_Vector]] = {}
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def info(self) -> QueryCacheInfo:
        """Counts since the client was opened."""
        with self._lock:
            held, room = int(self._known.currsize), int(self._known.maxsize)
            return QueryCacheInfo(self._hits, self._misses, len(self._known), held, room)

    def encode_fresh(self, space: VectorSpace, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `QueryEncoder.encode`; neither looks at what is remembered nor adds to it."""
        return self._encoder.encode(space, texts)

    def encode(self, space: VectorSpace, texts: Sequence[str], *, bulk: bool = False) -> npt.NDArray[np.float32]:
        """See `QueryEncoder.encode`. The array is the caller's own; nothing of bulk work is remembered."""
        if bulk or not self._known.maxsize:
            return self._encoder.encode(space, texts, bulk=bulk)
        keys = [_key(space, text) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        found: dict[_Key, _Vector] = {}
        while missing := {key: text for key, text in wanted.items() if key not in found}:
            found |= self._obtain(space, missing)
        return np.array([found[key] for key in keys])

    def _obtain(self, space: VectorSpace, missing: dict[_Key, str]) -> dict[_Key, _Vector]:
        """Vectors of what is known, of what nobody asks for yet, and then of what other threads ask for."""
        with self._lock:
            found = {key: vector for key in missing if (vector := self._known.get(key)) is not None}
            others = {key: self._flights[key] for key in missing if key in self._flights}
            ours = {key: text for key, text in missing.items() if key not in found and key not in others}
            self._flights |= {key: Future() for key in ours}
            self._misses += len(ours)
            self._hits += len(missing) - len(ours)
        if ours:
            found |= self._ask(space, ours)
        for key, flight in others.items():
            with suppress(CancelledError):  # it is for us to ask
                found[key] = flight.result()
        return found

    def _ask(self, space: VectorSpace, texts: dict[_Key, str]) -> dict[_Key, _Vector]:
        try:
            rows = self._encoder.encode(space, list(texts.values()))
            # Each its own array: a row would keep all others of its answer.
            vectors = {key: row.copy() for key, row in zip(texts, rows, strict=True)}
        except BaseException as error:
            for flight in self._land(texts, {}):
                _crash(flight, error, alone=len(texts) == 1)
            raise
        for flight, vector in zip(self._land(texts, vectors), vectors.values(), strict=True):
            flight.set_result(vector)
        return vectors

    def _land(self, texts: dict[_Key, str], vectors: dict[_Key, _Vector]) -> list[Future[_Vector]]:
        """Remember the vectors; gives the flights that end with them."""
        with self._lock:
            for key, vector in vectors.items():
                if _size(vector) <= self._known.maxsize:
                    self._known[key] = vector
            return [self._flights.pop(key) for key in texts]


def _crash(flight: Future[_Vector], error: BaseException, *, alone: bool) -> None:
    """An error of several texts may be another one's, and an interruption is the asking thread's: who waits, asks anew."""
    if alone and isinstance(error, Exception):
        flight.set_exception(error)
    else:
        flight.cancel()


def _key(space: VectorSpace, text: str) -> _Key:
    return space.fingerprint, hashlib.blake2b(text.encode(), digest_size=32).digest()


def _size(vector: _Vector) -> int:
    return vector.nbytes + _ENTRY_BYTES
