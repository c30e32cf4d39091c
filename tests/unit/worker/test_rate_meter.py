"""How fast a worker says it is."""

from __future__ import annotations

import pytest

from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.rate_meter import RateMeter
from gristmill_worker.batching.submission import Lane
from gristmill_worker.encoder.hash_encoder import HashEncoder

BUDGET = 1_000


class Work:
    """A worker's clock, which moves while it works."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.meter = RateMeter(lambda: self.seconds)

    def batch(self, tokens: int, seconds: float, times: int = 1) -> float | None:
        """So many batches of so many tokens; what is said afterwards."""
        for _ in range(times):
            self.seconds += seconds
            self.meter.done(tokens, BUDGET)
        return self.meter.tokens_per_s


def test_nothing_is_said_before_anything_was_measured() -> None:
    assert Work().meter.tokens_per_s is None


def test_a_worker_says_what_its_batches_show() -> None:
    assert Work().batch(1_000, seconds=0.5) == pytest.approx(2_000)


def test_two_lonely_texts_are_not_taken_for_all_that_it_can() -> None:
    assert Work().batch(5, seconds=0.1, times=2) is None


def test_lonely_texts_do_not_hide_what_a_burst_has_shown() -> None:
    work = Work()
    assert work.batch(1_000, seconds=0.5, times=10) == pytest.approx(2_000)
    assert work.batch(5, seconds=0.1, times=500) == pytest.approx(2_000, rel=0.1), "alone they would be 50 a second"


def test_a_burst_shows_at_once_what_lonely_texts_have_hidden() -> None:
    work = Work()
    assert work.batch(20, seconds=0.1, times=100) == pytest.approx(200)
    assert work.batch(1_000, seconds=0.5, times=2) == pytest.approx(2_000, rel=0.25)


def test_a_device_that_has_become_slower_says_so() -> None:
    work = Work()
    work.batch(1_000, seconds=0.5, times=1_000)
    assert work.batch(1_000, seconds=1.0, times=200) == pytest.approx(1_000, rel=0.05)


def test_work_that_took_no_time_says_nothing() -> None:
    """A clock may stand still for a moment."""
    assert Work().batch(1_000, seconds=0.0) is None


def test_a_batch_over_the_budget_counts_as_a_full_one() -> None:
    assert Work().batch(4_000, seconds=2.0) == pytest.approx(2_000)


def test_queries_cost_no_document_its_rate() -> None:
    work = Work()
    work.batch(1_000, seconds=0.5)
    work.seconds += 100.0
    work.meter.skip()
    assert work.batch(1_000, seconds=0.5) == pytest.approx(2_000)


def test_a_batcher_measures_documents_and_no_queries() -> None:
    batcher = Batcher(HashEncoder(8, budget_tokens=64))
    try:
        texts = HashEncoder(8).tokenize(["some words of a text"] * 64)
        batcher.submit(texts, Lane.INTERACTIVE).result()
        assert batcher.tokens_per_s is None
        batcher.submit(texts, Lane.BULK).result()
        assert batcher.tokens_per_s is not None
        assert batcher.tokens_per_s > 0
    finally:
        batcher.close()
