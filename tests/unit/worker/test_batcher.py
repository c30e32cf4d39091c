"""The batcher: every text gets exactly one row, in order; culprits fail alone; queries go first; nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed, ShuttingDown
from gristmill_worker.batching.batcher import QUERY_TOKENS, Batcher
from gristmill_worker.batching.canary import CANARY_TEXTS
from gristmill_worker.batching.submission import Lane, Row
from gristmill_worker.encoder.base import BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from waiting import eventually

#: Texts with one of these have no vector, in any company. One with "alike" spoils its batch, and none alone.
POISON = ("raise", "late", "panic", "nan", "zeros", "equal", "short")


class Panic(BaseException):
    """As PyO3 raises it: no Exception."""


class Fragile(HashEncoder):
    """The hash encoder with every way of failing, and a door that holds the model back until a test opens it."""

    def __init__(self, budget_tokens: int = 8, fits_tokens: int = 10**9, threads: int = 1) -> None:
        super().__init__(8, budget_tokens=budget_tokens)
        self.limits = BatchLimits(budget_tokens, in_flight=threads, on_threads=threads > 1)
        self.fits_tokens = fits_tokens
        self.batches: list[list[str]] = []
        self.canaries = 0
        self.door = threading.Event()
        self.door.set()
        self.at_door = threading.Event()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        if tuple(item.text for item in batch) == CANARY_TEXTS:
            self.canaries += 1
            return self._computed(batch)
        self.at_door.set()
        assert self.door.wait(30)
        self.batches.append([item.text for item in batch])
        if sum(item.n_tokens for item in batch) > self.fits_tokens:
            raise AcceleratorOutOfMemory("it did not fit")
        if any("raise" in item.text for item in batch):
            raise RuntimeError("a kernel failed")
        if any("panic" in item.text for item in batch):
            raise Panic("a native library has panicked")
        if any("late" in item.text for item in batch):
            return self._fail_late
        return self._computed(batch)

    @staticmethod
    def _fail_late() -> Vectors:
        raise EncodingFailed("it failed on the device")

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        return self.launch(batch)()

    def _computed(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        vectors = super().encode(batch)
        for row, item in enumerate(batch):
            if "nan" in item.text:
                vectors[row, 0] = np.nan
            if "zeros" in item.text:
                vectors[row] = 0
            if "equal" in item.text:
                vectors[row] = 0.25
        if any("alike" in item.text for item in batch):
            vectors[:] = vectors[0]
        return lambda: vectors[:-1] if any("short" in item.text for item in batch) else vectors


@pytest.fixture
def open_batcher() -> Iterator[Callable[..., tuple[Fragile, Batcher]]]:
    with ExitStack() as closing:

        def make(**options: int) -> tuple[Fragile, Batcher]:
            encoder = Fragile(**options)
            batcher = Batcher(encoder)
            closing.callback(batcher.close)
            closing.callback(encoder.door.set)
            return encoder, batcher

        yield make


MakeBatcher = Callable[..., tuple[Fragile, Batcher]]


def rows_of(future: Future[list[Row]]) -> list[Row]:
    return future.result(timeout=30)


def correct(encoder: Fragile, texts: Sequence[str], rows: Sequence[Row]) -> bool:
    """Whether each row is its own text's vector, or an error exactly where the text is poisoned."""
    if len(rows) != len(texts):
        return False
    for text, row in zip(texts, rows, strict=True):
        if any(word in text for word in POISON):
            if not isinstance(row, EncodingFailed):
                return False
        elif isinstance(row, Exception) or not np.array_equal(
            row, HashEncoder.encode(encoder, encoder.tokenize([text]))[0]
        ):
            return False
    return True


WORDS = st.sampled_from(["rye", "oats and rye", "a b c d e f", "all alike", *(f"so {word}" for word in POISON)])
#: Of the encoder: one is called by the model's own thread.
THREADS = st.sampled_from([1, 2, 3])
SUBMISSIONS = st.lists(st.tuples(st.lists(WORDS, max_size=12), st.sampled_from(list(Lane))), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SUBMISSIONS, st.integers(1, 20), st.sampled_from([1, 3, 10**9]), THREADS)
def test_every_text_gets_its_own_row_and_culprits_fail_alone(
    submissions: list[tuple[list[str], Lane]], budget: int, fits: int, threads: int
) -> None:
    encoder = Fragile(budget_tokens=budget, fits_tokens=fits if fits > 6 else 6, threads=threads)
    batcher = Batcher(encoder)
    try:
        waiting = [(texts, batcher.submit(encoder.tokenize(texts), lane)) for texts, lane in submissions]
        for texts, future in waiting:
            assert correct(encoder, texts, rows_of(future))
    finally:
        batcher.close()


def test_no_texts_give_no_rows(open_batcher: MakeBatcher) -> None:
    _, batcher = open_batcher()
    assert rows_of(batcher.submit([])) == []


def test_waiting_queries_share_launches_up_to_the_size_below_which_a_launch_costs_the_same(
    open_batcher: MakeBatcher,
) -> None:
    encoder, batcher = open_batcher(budget_tokens=100_000)
    encoder.door.clear()
    first = batcher.submit(encoder.tokenize(["bulk"]))
    assert encoder.at_door.wait(30)
    queries = [f"{number} " * 20 for number in range(100)]
    waiting = [batcher.submit(encoder.tokenize([query]), Lane.INTERACTIVE) for query in queries]
    encoder.door.set()
    for query, future in zip(queries, waiting, strict=True):
        assert correct(encoder, [query], rows_of(future))
    rows_of(first)
    launches = [len(batch) for batch in encoder.batches[1:]]
    assert sorted(launches, reverse=True) == [32, 32, 32, 4]
    assert QUERY_TOKENS == 32 * 20


def test_bulk_is_not_cut_at_the_size_for_queries(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=100_000)
    rows_of(batcher.submit(encoder.tokenize(["a " * 20] * 100)))
    assert [len(batch) for batch in encoder.batches] == [100]


def test_each_text_that_has_its_vector_is_told_of_at_once_and_one_that_failed_is_not(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=4)
    encoder.door.clear()
    told: list[int] = []
    future = batcher.submit(
        encoder.tokenize(["rye", "raise", "oats and rye", "the longest goes first"]), encoded=told.append
    )
    assert encoder.at_door.wait(30)
    assert told == []
    encoder.door.set()
    rows_of(future)
    assert (told[0], sorted(told)) == (3, [0, 2, 3])


def test_one_culprit_among_many_costs_few_extra_launches(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=1000)
    texts = [f"text {n}" for n in range(64)]
    texts[37] = "raise me"
    assert correct(encoder, texts, rows_of(batcher.submit(encoder.tokenize(texts))))
    assert len(encoder.batches) <= 1 + 2 * 6
    assert encoder.canaries <= 1 + 1 + 6, "one at the start, one for each launch that failed"


def test_out_of_memory_halves_the_budget_for_good(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=1024, fits_tokens=200)
    texts = [f"text {n}" for n in range(400)]
    assert correct(encoder, texts, rows_of(batcher.submit(encoder.tokenize(texts))))
    failed = len([batch for batch in encoder.batches if 2 * len(batch) > 200])
    assert correct(encoder, texts, rows_of(batcher.submit(encoder.tokenize(texts))))
    assert len([batch for batch in encoder.batches if 2 * len(batch) > 200]) == failed


def test_a_text_that_fits_nowhere_fails_as_too_long_for_this_device(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=64, fits_tokens=4)
    fits, too_long = rows_of(batcher.submit(encoder.tokenize(["it fits", "this is far too long"])))
    assert not isinstance(fits, Exception)
    assert isinstance(too_long, AcceleratorOutOfMemory)
    assert "a text of 5 tokens does not fit" in str(too_long)
    assert batcher.sick is None


def test_texts_of_many_callers_share_a_batch(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=100)
    encoder.door.clear()
    futures = [batcher.submit(encoder.tokenize(["first"]))]
    encoder.at_door.wait(30)
    futures += [batcher.submit(encoder.tokenize([f"text {n}"])) for n in range(5)]
    encoder.door.set()
    for future in futures:
        rows_of(future)
    assert [len(batch) for batch in encoder.batches] == [1, 5]


def test_no_batch_exceeds_the_budget_but_a_single_text(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=5)
    texts = ["a b c", "a b c d e f g h", "a", "b c", "d e f g"]
    rows_of(batcher.submit(encoder.tokenize(texts)))
    assert all(len(batch) == 1 or sum(len(text.split()) for text in batch) <= 5 for batch in encoder.batches)


def test_a_query_waits_for_one_batch_and_not_for_the_window(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    encoder.door.clear()
    bulk = batcher.submit(encoder.tokenize([f"bulk{n}" for n in range(50)]))
    encoder.at_door.wait(30)
    query = batcher.submit(encoder.tokenize(["query"]), Lane.INTERACTIVE)
    encoder.door.set()
    rows_of(query)
    rows_of(bulk)
    order = [text for batch in encoder.batches for text in batch]
    assert order.index("query") <= 2


def test_queries_that_wait_go_before_bulk_work_that_came_earlier(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=100)
    encoder.door.clear()
    first = batcher.submit(encoder.tokenize(["first"]))
    encoder.at_door.wait(30)
    bulk = batcher.submit(encoder.tokenize(["bulk"]))
    query = batcher.submit(encoder.tokenize(["query"]), Lane.INTERACTIVE)
    encoder.door.set()
    for future in (first, bulk, query):
        rows_of(future)
    assert encoder.batches == [["first"], ["query"], ["bulk"]]


def test_closing_tells_everybody_who_waits(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher(budget_tokens=1)
    encoder.door.clear()
    running = batcher.submit(encoder.tokenize(["running", "same window"]))
    encoder.at_door.wait(30)
    waiting = [batcher.submit(encoder.tokenize(["waiting"]), lane) for lane in Lane]
    closer = threading.Thread(target=batcher.close)
    closer.start()
    for future in waiting:
        with pytest.raises(ShuttingDown):
            rows_of(future)
    encoder.door.set()
    with pytest.raises(ShuttingDown):
        rows_of(running)
    closer.join(30)
    assert not closer.is_alive()
    with pytest.raises(ShuttingDown):
        batcher.submit(encoder.tokenize(["late comer"]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 4), THREADS)
def test_closing_at_any_moment_leaves_nobody_waiting(sizes: list[int], budget: int, threads: int) -> None:
    encoder = Fragile(budget_tokens=budget, threads=threads)
    batcher = Batcher(encoder)
    futures = [batcher.submit(encoder.tokenize(["word"] * size), list(Lane)[size % 2]) for size in sizes]
    batcher.close()
    for future, size in zip(futures, sizes, strict=True):
        error = future.exception(timeout=0)
        assert isinstance(error, ShuttingDown) if error else len(rows_of(future)) == size


def test_an_idle_model_is_not_taken_for_a_hung_one(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher()
    rows_of(batcher.submit(encoder.tokenize(["raise me"])))
    eventually(lambda: batcher.busy_since is None)


def test_a_batch_on_the_model_is_seen_by_the_watchdog(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher()
    encoder.door.clear()
    future = batcher.submit(encoder.tokenize(["slow"]))
    encoder.at_door.wait(30)
    assert batcher.busy_since is not None
    encoder.door.set()
    rows_of(future)


def test_it_counts_what_it_has_done(open_batcher: MakeBatcher) -> None:
    encoder, batcher = open_batcher()
    rows_of(batcher.submit(encoder.tokenize(["one", "two words"])))
    eventually(lambda: (batcher.texts_done, batcher.tokens_done) == (2, 3))
    assert batcher.queued_texts == 0
