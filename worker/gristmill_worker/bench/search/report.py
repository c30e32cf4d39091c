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
        "cores": measured.cores,
        "cpu_ms_per_query": _rounded(measured.spent[many].ms_each()),
        "one_thread_cpu_ms_per_query": _rounded(measured.spent[one].ms_each()),
        **_ceiling(measured, rates[one], rates[many]),
        "ready_queries_per_s": round(ready[many], 1),
        "ready_threads_ratio": round(ready[many] / ready[one], 2),
        "ready_p50_ms": _ms(measured.ready, 50),
        "interactive_p50_ms_under_bulk": _ms(measured.load.searches, 50),
        "searches_under_bulk": len(measured.load.searches),
        "queries": plan.queries,
        "rounds": plan.rounds,
        **(_of_reranking(plan, measured) if plan.reranker else {}),
    }


def _of_reranking(plan: SearchPlan, measured: Measured) -> dict[str, Any]:
    read, encoded = (median(rates) if rates else None for rates in (measured.read, measured.encoded))
    return {
        "reranker": plan.reranker,
        "rerank_p50_ms": _ms(measured.reranked, 50),
        "rerank_p99_ms": _ms(measured.reranked, 99),
        "rerank_p50_ms_under_bulk": _ms(measured.load.reranked, 50),
        "rerank_p99_ms_under_bulk": _ms(measured.load.reranked, 99),
        "rerank_pairs_per_s": round(median(measured.pairs), 1),
        "rerank_tokens_per_s": None if read is None else round(read),
        "encoder_tokens_per_s": None if encoded is None else round(encoded),
        "rerank_of_encoder": None if read is None or encoded is None else round(read / encoded, 3),
    }


def _ceiling(measured: Measured, one: float, many: float) -> dict[str, float | None]:
    """Searches per second if all cores did nothing else, at what one costs when many are under way.

    Client, worker, Qdrant and Redis share the cores, so that no number of threads gets beyond it: `threads_ratio` is at most
    `ceiling_threads_ratio`, which is the less the better one thread uses the cores already.
    """
    each_ms = [*measured.spent[max(measured.spent)].ms_each().values()]
    seen = [ms for ms in each_ms if ms is not None]
    if len(seen) < len(each_ms):
        return dict.fromkeys(("ceiling_queries_per_s", "ceiling_fraction", "ceiling_threads_ratio"))
    ceiling = measured.cores * 1e3 / sum(seen)
    return {
        "ceiling_queries_per_s": round(ceiling, 1),
        "ceiling_fraction": round(many / ceiling, 3),
        "ceiling_threads_ratio": round(ceiling / one, 2),
    }


def _rounded(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if each is None else round(each, 3) for name, each in figures.items()}


def _ms(samples: Sequence[float], percent: int) -> float:
    return round(1e3 * float(np.percentile(samples, percent)), 3)


def show(figures: Mapping[str, Any]) -> None:
    """Print what `report` gave."""
    fields((name.replace("_", " "), _shown(value)) for name, value in figures.items())


def _shown(value: object) -> object:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, Mapping) else value
