"""An accelerator that lets queries by: they wait for no bulk work, and the model thread for neither."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing

import numpy as np
import pytest

from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.canary import CANARY_TEXTS
from gristmill_worker.batching.submission import Lane, Row
from gristmill_worker.encoder.base import BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from waiting import eventually


class Launched:
    """A launch whose result is there when a test opens its door."""

    def __init__(self, card: Card, texts: Sequence[str], compute: Callable[[], Vectors]) -> None:
        self._card, self._texts, self._compute = card, texts, compute
        self.taken_by = ""

    def wait(self) -> None:
        for text in self._texts:
            if text in self._card.doors:
                assert self._card.doors[text].wait(60)
        if self._card.poison.intersection(self._texts):
            raise RuntimeError("a kernel failed")
        if self._card.large.intersection(self._texts):
            raise AcceleratorOutOfMemory("the batch did not fit into memory")

    def __call__(self) -> Vectors:
        self.wait()
        self.taken_by = threading.current_thread().name
        return self._compute()


class Card(HashEncoder):
    """Starts what it is told to, and lets queries by."""

    def __init__(self) -> None:
        super().__init__(8, budget_tokens=1)
        self.limits = BatchLimits(1, in_flight=2, beside=True)
        self.doors: dict[str, threading.Event] = {}
        self.poison: set[str] = set()
        #: What fits alone only.
        self.large: set[str] = set()
        #: Texts and thread of each launch.
        self.launches: list[tuple[list[str], str]] = []
        self.results: list[Launched] = []

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        texts = [item.text for item in batch]
        if tuple(texts) == CANARY_TEXTS:
            return super().launch(batch)
        self.launches.append((texts, threading.current_thread().name))
        self.results.append(Launched(self, texts, lambda: HashEncoder.encode(self, batch)))
        return self.results[-1]

    def close_doors(self, *texts: str) -> None:
        self.doors.update({text: threading.Event() for text in texts})

    def open_doors(self) -> None:
        for door in self.doors.values():
            door.set()

    def started(self) -> set[str]:
        return {text for texts, _ in self.launches for text in texts}


@pytest.fixture
def card() -> Iterator[Card]:
    made = Card()
    yield made
    made.open_doors()


@pytest.fixture
def batcher(card: Card) -> Iterator[Batcher]:
    with ExitStack() as last:
        made = Batcher(card)
        last.callback(made.close)
        # Before: nobody can close while a launch does not end.
        last.callback(card.open_doors)
        yield made


def submit(batcher: Batcher, *texts: str, lane: Lane = Lane.BULK) -> Future[list[Row]]:
    return batcher.submit([TokenizedText(text, np.zeros(1, dtype=np.int32), 1) for text in texts], lane)


def query(batcher: Batcher, *texts: str) -> Future[list[Row]]:
    return submit(batcher, *texts, lane=Lane.INTERACTIVE)


def test_a_query_waits_for_no_bulk_work_that_an_accelerator_has(card: Card, batcher: Batcher) -> None:
    card.close_doors("a", "b")
    bulk = [submit(batcher, "a")]
    eventually(lambda: "a" in card.started())
    bulk += [submit(batcher, "b")]
    eventually(lambda: "b" in card.started())
    bulk += [submit(batcher, "c")]
    for number in range(20):
        (row,) = query(batcher, f"query {number}").result(60)
        assert isinstance(row, np.ndarray)
    assert "c" not in card.started()
    assert not any(future.done() for future in bulk)
    card.doors["a"].set()
    eventually(lambda: "c" in card.started())
    assert len(bulk[0].result(60)) == 1
    assert not bulk[1].done()
    card.doors["b"].set()
    assert len(bulk[2].result(60)) == 1


def test_bulk_work_is_launched_by_one_thread_and_results_are_taken_by_the_same(card: Card, batcher: Batcher) -> None:
    bulk = [submit(batcher, *(f"{job} {number}" for number in range(10))) for job in range(5)]
    asked = [query(batcher, f"query {number}") for number in range(30)]
    for future in (*bulk, *asked):
        assert all(isinstance(row, np.ndarray) for row in future.result(60))
    of_bulk = {thread for texts, thread in card.launches if not texts[0].startswith("query")}
    of_queries = {thread for texts, thread in card.launches if texts[0].startswith("query")}
    assert of_bulk == {"gristmill-model"}
    assert of_queries == {"gristmill-model-1"}
    assert {result.taken_by for result in card.results} == {"gristmill-model"}


def test_queries_that_come_while_one_is_under_way_go_together(card: Card, batcher: Batcher) -> None:
    card.limits = BatchLimits(1_000, in_flight=2, beside=True)
    card.close_doors("first")
    first = query(batcher, "first")
    eventually(lambda: "first" in card.started())
    others = [query(batcher, f"other {number}") for number in range(5)]
    assert card.started() == {"first"}
    card.doors["first"].set()
    for future in (first, *others):
        assert len(future.result(60)) == 1
    assert len(card.launches) <= 4


def test_whose_fault_a_failed_launch_is_does_not_depend_on_who_waited_for_it(card: Card, batcher: Batcher) -> None:
    card.poison = {"bad", "bad query"}
    bulk, asked = submit(batcher, "good", "bad", "fine"), query(batcher, "well", "bad query")
    assert [isinstance(row, EncodingFailed) for row in bulk.result(60)] == [False, True, False]
    assert [isinstance(row, EncodingFailed) for row in asked.result(60)] == [False, True]


def test_the_watchdog_sees_a_launch_that_does_not_end(card: Card, batcher: Batcher) -> None:
    card.close_doors("hangs")
    assert batcher.busy_since is None
    submit(batcher, "hangs")
    eventually(lambda: batcher.busy_since is not None)
    query(batcher, "query").result(60)
    assert batcher.busy_since is not None
    card.doors["hangs"].set()
    eventually(lambda: batcher.busy_since is None)


def test_what_has_no_room_beside_others_is_tried_alone(card: Card, batcher: Batcher) -> None:
    card.close_doors("bulk")
    query(batcher, "as long").result(60)
    bulk = submit(batcher, "bulk")
    eventually(lambda: "bulk" in card.started())
    card.large = {"long"}
    asked = query(batcher, "long")
    eventually(lambda: "long" in card.started())
    card.doors["bulk"].set()
    assert isinstance(asked.result(60)[0], np.ndarray)
    assert isinstance(bulk.result(60)[0], np.ndarray)
    assert batcher.sick is None


def test_queries_that_had_no_room_cost_bulk_work_half_its_budget_and_not_all_but_theirs(card: Card) -> None:
    card.limits = BatchLimits(100_000, in_flight=2, beside=True)
    card.large = {"long", "other"}
    with closing(Batcher(card)) as batcher:
        assert all(isinstance(row, np.ndarray) for row in query(batcher, "long", "other").result(60))
        assert batcher.budget_tokens == 50_000
