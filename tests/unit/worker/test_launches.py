"""Launches on threads: side by side, collected as they end, a query at once beside them, all cores for one that is alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

import pytest

from gristmill_schemas.errors import AcceleratorOutOfMemory, DeviceFailed, EncodingFailed
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.canary import CANARY_TEXTS
from gristmill_worker.batching.rate_meter import RateMeter
from gristmill_worker.batching.submission import Lane, Row
from gristmill_worker.encoder.base import BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from waiting import eventually


class Shared(HashEncoder):
    """A processor of some cores: each text that is named here waits, on its thread, until a test opens its door."""

    def __init__(self, threads: int = 2, budget_tokens: int = 100) -> None:
        super().__init__(8, budget_tokens=budget_tokens)
        self.limits = BatchLimits(budget_tokens, in_flight=threads, on_threads=True)
        self.doors: dict[str, threading.Event] = {}
        #: Every launch in the order of their starts: its texts, and whether it has all cores.
        self.launches: list[tuple[set[str], bool]] = []
        #: Launches with one of these raise, and those of several texts of which one is in `large`.
        self.poison: set[str] = set()
        self.large: set[str] = set()
        #: Texts that fit only where nothing else is under way.
        self.crowded: set[str] = set()
        self.under_way: set[int] = set()
        #: Most launches at once whenever bulk work began.
        self.most = 0

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        vectors = self._computed(batch, alone=False)
        return lambda: vectors

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        return self._computed(batch, alone=True)

    def _computed(self, batch: Sequence[TokenizedText], *, alone: bool) -> Vectors:
        texts = [item.text for item in batch]
        if tuple(texts) != CANARY_TEXTS:
            self.launches.append((set(texts), alone))
            self.under_way.add(id(batch))
            if "bulk" in texts[0]:
                self.most = max(self.most, len(self.under_way))
        try:
            for text in texts:
                if text in self.doors:
                    assert self.doors[text].wait(60)
        finally:
            self.under_way.discard(id(batch))
        if self.poison.intersection(texts):
            raise RuntimeError("a kernel failed")
        if not alone and self.crowded.intersection(texts):
            raise AcceleratorOutOfMemory("it did not fit beside the others")
        if len(texts) > 1 and self.large.intersection(texts):
            raise AcceleratorOutOfMemory("it did not fit")
        return super().encode(batch)

    def close_doors(self, *texts: str) -> None:
        """From now on these wait."""
        self.doors.update({text: threading.Event() for text in texts})

    def open_doors(self) -> None:
        """Nobody waits any more."""
        for door in self.doors.values():
            door.set()

    def started(self) -> set[str]:
        """Texts that are, or were, computed."""
        return {text for texts, _ in self.launches for text in texts}


Make = Callable[..., tuple[Shared, Batcher]]


@pytest.fixture
def open_batcher() -> Iterator[Make]:
    with ExitStack() as closing:

        def make(**options: int) -> tuple[Shared, Batcher]:
            encoder = Shared(**options)
            batcher = Batcher(encoder)
            closing.callback(batcher.close)
            closing.callback(encoder.open_doors)
            return encoder, batcher

        yield make


def submit(encoder: Shared, batcher: Batcher, *texts: str, lane: Lane = Lane.BULK) -> Future[list[Row]]:
    return batcher.submit(encoder.tokenize(texts), lane)


def occupy(encoder: Shared, batcher: Batcher, *texts: str) -> list[Future[list[Row]]]:
    """Have each of these texts computed by a thread of its own, which does not end; there is a launch before them."""
    encoder.close_doors("before", *texts)
    first = submit(encoder, batcher, "before")
    eventually(lambda: "before" in encoder.started())
    futures = [submit(encoder, batcher, text) for text in texts]
    encoder.doors["before"].set()
    first.result(60)
    eventually(lambda: set(texts) <= encoder.started())
    return futures


def test_as_many_run_at_once_as_the_encoder_says(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(threads=3, budget_tokens=1)
    futures = occupy(encoder, batcher, "a", "b", "c")
    later = submit(encoder, batcher, "later")
    assert "later" not in encoder.started()
    encoder.doors["b"].set()
    later.result(60)
    assert not futures[0].done()
    assert not futures[2].done()


def test_what_ends_first_is_delivered_first(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    slow, fast = occupy(encoder, batcher, "slow", "fast")
    encoder.doors["fast"].set()
    assert len(fast.result(60)) == 1
    assert not slow.done()
    for number in range(20):
        submit(encoder, batcher, f"next {number}").result(60)
    assert not slow.done()


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_a_query_waits_for_no_bulk_work_that_runs(open_batcher: Make, threads: int) -> None:
    encoder, batcher = open_batcher(threads=threads, budget_tokens=1)
    bulk = occupy(encoder, batcher, *(f"bulk {number}" for number in range(threads)))
    later = submit(encoder, batcher, "later")
    for number in range(20):
        (row,) = submit(encoder, batcher, f"query {number}", lane=Lane.INTERACTIVE).result(60)
        assert not isinstance(row, Exception)
    assert not any(future.done() for future in (*bulk, later))
    assert not any(alone for texts, alone in encoder.launches if texts != {"before"})


def test_queries_that_come_meanwhile_go_together_before_all_bulk_work(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=2)
    occupied = occupy(encoder, batcher, "bulk a", "bulk b")
    encoder.close_doors("query")
    later = [submit(encoder, batcher, f"bulk {number}") for number in range(5)]
    query = submit(encoder, batcher, "query", lane=Lane.INTERACTIVE)
    eventually(lambda: "query" in encoder.started())
    others = [submit(encoder, batcher, text, lane=Lane.INTERACTIVE) for text in ("other", "third")]
    assert encoder.started() == {"before", "bulk a", "bulk b", "query"}
    encoder.doors["bulk a"].set()
    occupied[0].result(60)
    encoder.doors["query"].set()
    for future in (query, *others, *later):
        future.result(60)
    assert not occupied[1].done()
    assert [texts for texts, _ in encoder.launches[4:6]] == [{"other", "third"}, {"bulk 0"}]


def test_beside_a_query_no_more_bulk_work_begins_than_there_are_cores_left(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    occupied = occupy(encoder, batcher, "bulk a", "bulk b")
    encoder.close_doors("query")
    query = submit(encoder, batcher, "query", lane=Lane.INTERACTIVE)
    eventually(lambda: "query" in encoder.started())
    later = [submit(encoder, batcher, f"bulk {number}") for number in range(5)]
    encoder.doors["bulk a"].set()
    occupied[0].result(60)
    encoder.doors["query"].set()
    for future in (query, *later):
        future.result(60)
    assert not occupied[1].done()
    assert encoder.most == 2


@pytest.mark.parametrize("fails", ["poison", "large"])
def test_queries_that_fail_together_are_told_apart_while_bulk_work_runs(open_batcher: Make, fails: str) -> None:
    encoder, batcher = open_batcher(budget_tokens=10)
    occupied = occupy(encoder, batcher, *("bulk of ten words " * 2 + f"so {number}" for number in range(2)))
    encoder.close_doors("query")
    query = submit(encoder, batcher, "query", lane=Lane.INTERACTIVE)
    eventually(lambda: "query" in encoder.started())
    getattr(encoder, fails).add("culprit")
    texts = ["one", "two", "culprit", "four"]
    futures = [submit(encoder, batcher, text, lane=Lane.INTERACTIVE) for text in texts]
    encoder.doors["query"].set()
    query.result(60)
    rows = [row for future in futures for row in future.result(60)]
    assert [isinstance(row, EncodingFailed) for row in rows] == [False, False, fails == "poison", False]
    assert set(texts) in [together for together, _ in encoder.launches]
    assert not any(future.done() for future in occupied)


def test_queries_beside_bulk_work_do_not_count_as_its_time(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    occupied = occupy(encoder, batcher, "a", "b")
    seconds = [0.0]
    batcher._rate = RateMeter(lambda: seconds[0])
    seconds[0] = 9.0
    submit(encoder, batcher, "query", lane=Lane.INTERACTIVE).result(60)
    seconds[0] = 10.0
    encoder.doors["a"].set()
    occupied[0].result(60)
    eventually(lambda: batcher.tokens_per_s == pytest.approx(0.1))


def test_a_batch_that_nothing_waits_beside_has_all_cores(open_batcher: Make) -> None:
    encoder, batcher = open_batcher()
    submit(encoder, batcher, "lonely").result(60)
    submit(encoder, batcher, "question", lane=Lane.INTERACTIVE).result(60)
    assert encoder.launches == [({"lonely"}, True), ({"question"}, True)]


def test_a_query_does_not_wait_for_bulk_work_that_has_all_cores_and_more_of_that_does(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    encoder.close_doors("bulk")
    lonely = submit(encoder, batcher, "bulk")
    eventually(lambda: encoder.launches == [({"bulk"}, True)])
    for number in range(20):
        submit(encoder, batcher, f"query {number}", lane=Lane.INTERACTIVE).result(60)
    later = [submit(encoder, batcher, f"bulk {number}") for number in range(5)]
    submit(encoder, batcher, "query", lane=Lane.INTERACTIVE).result(60)
    assert not lonely.done()
    assert not any("bulk" in text for texts, _ in encoder.launches[1:] for text in texts)
    encoder.doors["bulk"].set()
    for future in (lonely, *later):
        future.result(60)


def test_bulk_work_that_hangs_on_all_cores_is_seen(open_batcher: Make) -> None:
    encoder, batcher = open_batcher()
    encoder.close_doors("hangs")
    submit(encoder, batcher, "hangs")
    eventually(lambda: batcher.busy_since is not None)
    since = batcher.busy_since
    for number in range(10):
        submit(encoder, batcher, f"query {number}", lane=Lane.INTERACTIVE).result(60)
        assert batcher.busy_since == since


def test_batches_that_wait_share_the_cores(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=100)
    submit(encoder, batcher, *(f"{number} " + "word " * 40 for number in range(4))).result(60)
    assert [len(texts) for texts, _ in encoder.launches] == [2, 2]
    assert not any(alone for _, alone in encoder.launches)


def test_a_launch_that_hangs_is_seen_while_others_go_on(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    occupy(encoder, batcher, "hangs", "b")
    since = batcher.busy_since
    encoder.doors["b"].set()
    for number in range(10):
        submit(encoder, batcher, f"next {number}").result(60)
        assert batcher.busy_since == since
    assert since is not None
    encoder.doors["hangs"].set()
    eventually(lambda: batcher.busy_since is None)


def test_a_query_that_hangs_is_seen_while_bulk_work_goes_on(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    occupy(encoder, batcher, "a", "b")
    encoder.close_doors("hangs")
    submit(encoder, batcher, "hangs", lane=Lane.INTERACTIVE)
    eventually(lambda: "hangs" in encoder.started())
    encoder.doors["a"].set()
    encoder.doors["b"].set()
    for number in range(10):
        submit(encoder, batcher, f"next {number}").result(60)
    since = batcher.busy_since
    submit(encoder, batcher, "the last").result(60)
    assert since is not None
    assert batcher.busy_since == since
    encoder.doors["hangs"].set()
    eventually(lambda: batcher.busy_since is None)


def test_closing_waits_for_threads(open_batcher: Make) -> None:
    before = set(threading.enumerate())
    encoder, batcher = open_batcher(budget_tokens=1)
    futures = occupy(encoder, batcher, "a", "b")
    encoder.close_doors("query")
    query = submit(encoder, batcher, "query", lane=Lane.INTERACTIVE)
    eventually(lambda: "query" in encoder.started())
    closer = threading.Thread(target=batcher.close)
    closer.start()
    encoder.doors["b"].set()
    assert len(futures[1].result(60)) == 1
    assert closer.is_alive()
    encoder.doors["a"].set()
    assert len(futures[0].result(60)) == 1
    assert closer.is_alive()
    encoder.doors["query"].set()
    assert len(query.result(60)) == 1
    closer.join(60)
    assert not closer.is_alive()
    eventually(lambda: not set(threading.enumerate()) - before)


def test_who_waits_for_a_text_that_waits_to_be_tried_alone_hears_that_the_model_thread_died(open_batcher: Make) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    encoder.crowded.add("large")
    encoder.close_doors("before", "large", "other")
    first = submit(encoder, batcher, "before")
    eventually(lambda: "before" in encoder.started())
    large = submit(encoder, batcher, "large")
    other = batcher.submit(encoder.tokenize(["other"]), encoded=lambda _: 1 / 0)  # type: ignore[arg-type]
    encoder.doors["before"].set()
    first.result(60)
    eventually(lambda: {"large", "other"} <= encoder.started())
    encoder.doors["large"].set()
    eventually(lambda: not batcher._launches)
    encoder.doors["other"].set()
    for future in (other, large):
        with pytest.raises(DeviceFailed, match="the model thread died"):
            future.result(60)


def test_threads_go_when_the_model_thread_dies(monkeypatch: pytest.MonkeyPatch, open_batcher: Make) -> None:
    before = set(threading.enumerate())
    encoder, batcher = open_batcher()
    monkeypatch.setattr(batcher, "_plan", lambda *_: 1 / 0)
    with pytest.raises(DeviceFailed, match="the model thread died"):
        submit(encoder, batcher, "a").result(60)
    eventually(lambda: not set(threading.enumerate()) - before)
