"""From samples to figures: milliseconds at the median and at the 99th of a hundred, rates as medians of the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from gristmill.cli.layout import fields
from gristmill_worker.bench.search.records import Measured, SearchPlan


def report(plan: SearchPlan, measured: Measured) -> dict[str, Any]:
    """The keys of `gristmill bench search --json`."""
    one, many = min(measured.through_worker), max(measured.through_worker)
    rates = {threads: median(rates) for threads, rates in measured.through_worker.items()}
    ready = {threads: median(rates) for threads, rates in measured.remembered.items()}
    return {
        "encoder": plan.encoder,
        "documents": plan.documents,
        "dimensions": measured.dimensions,
        "p50_ms": _ms(measured.search, 50),
        "p99_ms": _ms(measured.search, 99),
        "raw_qdrant_p50_ms": _ms(measured.raw, 50),
        "overhead_p50_ms": round(_ms(measured.ready, 50) - _ms(measured.raw, 50), 3),
        "query_encode_p50_ms": _ms(measured.encode, 50),
        "worker_overhead_p50_ms": round(_ms(measured.vector, 50) - _ms(measured.encode, 50), 3),
        "interactive_p99_ms_under_bulk": _ms(measured.load.searches, 99),
        "bulk_batch_ms": round(1e3 * measured.load.batch_s, 3),
        "queries_per_s": round(rates[many], 1),
        "threads": many,
        "threads_ratio": round(rates[many] / rates[one], 2),
        "one_thread_queries_per_s": round(rates[one], 1),
        "ready_queries_per_s": round(ready[many], 1),
        "ready_threads_ratio": round(ready[many] / ready[one], 2),
        "ready_p50_ms": _ms(measured.ready, 50),
        "interactive_p50_ms_under_bulk": _ms(measured.load.searches, 50),
        "searches_under_bulk": len(measured.load.searches),
        "queries": plan.queries,
        "rounds": plan.rounds,
    }


def _ms(samples: Sequence[float], percent: int) -> float:
    return round(1e3 * float(np.percentile(samples, percent)), 3)


def show(figures: Mapping[str, Any]) -> None:
    """Print what `report` gave."""
    fields((name.replace("_", " "), value) for name, value in figures.items())
