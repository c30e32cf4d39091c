"""Counters and histograms: exact under many threads, bounded in their labels, as Prometheus reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from gristmill_worker.metering.instruments import Counts, Histogram


def test_counts_of_many_threads_are_exact() -> None:
    counts = Counts("a", "b")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: counts.add("ab"[number % 2], 2), range(10_000)))
    assert counts.all() == {"a": 10_000, "b": 10_000}


def test_a_key_that_nobody_foresaw_makes_no_label_of_its_own() -> None:
    counts = Counts("a")
    for key in ("a", "x", "y"):
        counts.add(key)
    assert counts.all() == {"a": 1, "other": 2}


def test_a_bound_belongs_to_its_bucket_and_buckets_are_cumulative() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 3):
        histogram.observe(value)
    assert histogram.read() == ([("1.0", 2), ("2.0", 3), ("+Inf", 4)], 6.0)


def test_what_fails_is_timed_as_well() -> None:
    histogram = Histogram()
    with pytest.raises(ZeroDivisionError), histogram.timing():
        _ = 1 / 0
    assert histogram.read()[0][-1] == ("+Inf", 1)
