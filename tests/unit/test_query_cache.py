"""Queries that were asked before are not encoded again: what a client remembers, forgets, and never mixes up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from gristmill.search.remembered_vectors import RememberedVectors
from gristmill_schemas import VectorSpace
from gristmill_schemas.errors import EncodingFailed
from gristmill_worker.encoder.hash_encoder import HashEncoder
from waiting import eventually

SPACE = HashEncoder(16).info.space()
ROOM = 1 << 20


class Worker:
    """Encodes as a worker does and notes what it was asked for; `gate` holds its answers back."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self._encoder = HashEncoder(16)

    def encode(self, space: VectorSpace, texts: Sequence[str], *, bulk: bool = False) -> npt.NDArray[np.float32]:
        self.asked.append(list(texts))
        assert self.gate.wait(60)
        if "bad" in texts:
            raise EncodingFailed("bad")
        return self._encoder.encode(self._encoder.tokenize(list(texts)))[:, : space.dimensions]


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_the_same_query_is_encoded_once_and_gives_the_same_vector(worker: Worker) -> None:
    cache = RememberedVectors(worker, ROOM)
    first, second = (cache.encode(SPACE, ["a", "b", "a"]) for _ in range(2))
    assert worker.asked == [["a", "b"]]
    assert first.shape == (3, 16)
    assert np.array_equal(first, worker.encode(SPACE, ["a", "b", "a"]))
    first[:] = 0  # is the caller's own
    assert np.array_equal(second, cache.encode(SPACE, ["a", "b", "a"]))
    info = cache.info()
    assert (info.hits, info.misses, info.vectors) == (4, 2, 2)
    assert 0 < info.bytes <= info.max_bytes == ROOM


def test_only_what_is_not_known_is_asked_for(worker: Worker) -> None:
    cache = RememberedVectors(worker, ROOM)
    cache.encode(SPACE, ["a", "c"])
    assert np.array_equal(cache.encode(SPACE, ["c", "b", "a"]), worker.encode(SPACE, ["c", "b", "a"]))
    assert worker.asked[:2] == [["a", "c"], ["b"]]


@pytest.mark.parametrize("nearly", ["A", "a ", " a", "ａ", "a\u200b", "Instruct: x\nQuery:a"])
def test_a_text_that_is_only_alike_is_another(worker: Worker, nearly: str) -> None:
    cache = RememberedVectors(worker, ROOM)
    cache.encode(SPACE, ["a"])
    cache.encode(SPACE, [nearly])
    assert worker.asked == [["a"], [nearly]]


@pytest.mark.parametrize("change", [{"dimensions": 8}, {"normalize": False}, {"model_digest": "f" * 64}])
def test_another_space_finds_nothing_of_the_former(worker: Worker, change: dict[str, object]) -> None:
    cache = RememberedVectors(worker, ROOM)
    other = VectorSpace.model_validate(SPACE.model_dump() | change)
    cache.encode(SPACE, ["a"])
    assert cache.encode(other, ["a"]).shape == (1, other.dimensions)
    assert len(worker.asked) == 2


def test_what_was_not_asked_for_the_longest_makes_room(worker: Worker) -> None:
    cache = RememberedVectors(worker, max_bytes=3 * (16 * 4 + 400))
    for text in ("a", "b", "c", "a", "d", "a"):
        cache.encode(SPACE, [text])
    assert cache.info().vectors == 3
    assert worker.asked == [["a"], ["b"], ["c"], ["d"]]
    cache.encode(SPACE, ["b"])
    assert worker.asked[-1] == ["b"]
    assert cache.info().bytes <= cache.info().max_bytes


@pytest.mark.parametrize("room", [0, 100])
def test_without_room_every_query_is_encoded(worker: Worker, room: int) -> None:
    cache = RememberedVectors(worker, room)
    for _ in range(2):
        assert np.array_equal(cache.encode(SPACE, ["a"]), HashEncoder(16).encode(HashEncoder(16).tokenize(["a"])))
    assert len(worker.asked) == 2
    assert cache.info().vectors == 0


def side_by_side(
    cache: RememberedVectors, worker: Worker, *calls: list[str]
) -> list[Callable[[], npt.NDArray[np.float32]]]:
    """Results of calls, all of which wait for the worker before it answers the first."""
    worker.gate.clear()
    pool = ThreadPoolExecutor(len(calls))
    futures = []
    for texts in calls:
        counted = cache.info()
        futures.append(pool.submit(cache.encode, SPACE, texts))
        eventually(lambda counted=counted: cache.info() != counted)  # type: ignore[misc]  # mypy cannot infer it
    worker.gate.set()
    pool.shutdown(wait=True)
    return [future.result for future in futures]


def test_threads_that_ask_for_the_same_at_once_ask_a_worker_once(worker: Worker) -> None:
    cache = RememberedVectors(worker, ROOM)
    results = side_by_side(cache, worker, ["a"], ["a"], ["b", "a"], ["a", "b"])
    assert worker.asked == [["a"], ["b"]]
    assert [result().shape for result in results] == [(1, 16), (1, 16), (2, 16), (2, 16)]
    assert (cache.info().hits, cache.info().misses) == (4, 2)


def test_whoever_waited_for_a_query_that_failed_hears_so_and_nobody_is_stuck(worker: Worker) -> None:
    cache = RememberedVectors(worker, ROOM)
    for result in side_by_side(cache, worker, ["bad"], ["bad"]):
        with pytest.raises(EncodingFailed):
            result()
    assert worker.asked == [["bad"]]
    with pytest.raises(EncodingFailed):
        cache.encode(SPACE, ["bad"])
    assert cache.info().vectors == 0


def test_a_neighbours_bad_text_costs_nobody_else_the_answer(worker: Worker) -> None:
    cache = RememberedVectors(worker, ROOM)
    theirs, ours = side_by_side(cache, worker, ["good", "bad"], ["good"])
    with pytest.raises(EncodingFailed):
        theirs()
    assert np.array_equal(ours(), HashEncoder(16).encode(HashEncoder(16).tokenize(["good"])))
