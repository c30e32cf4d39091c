"""From rounds to figures: medians, with the lowest and the highest of the rounds beside each rate."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from gristmill_worker.bench.pipeline.records import Pass, Passes, Plan, Rounds


def report(plan: Plan, rounds: Rounds) -> dict[str, Any]:
    """The keys of `gristmill bench pipeline --json`. Ratios are medians of each round's own."""
    ours, raw = rounds.ours, rounds.raw
    new, unchanged, points = _rates(ours.new), _rates(ours.unchanged), _rates(raw.new)
    return {
        "encoder": plan.encoder,
        "documents": plan.documents,
        "dimensions": rounds.dimensions,
        "workers": plan.workers,
        "documents_per_s": _middle(new),
        "unchanged_documents_per_s": _middle(unchanged),
        "raw_points_per_s": _middle(points),
        "ceiling_fraction": _ratio(new, points),
        "worker_cpu_ms_per_document": _cpu_ms(ours.new, "worker"),
        "producer_cpu_ms_per_document": _cpu_ms(ours.new, "side"),
        "qdrant_cpu_ms_per_document": _cpu_ms(ours.new, "qdrant"),
        "redis_cpu_ms_per_document": _cpu_ms(ours.new, "redis"),
        "encoder_documents_per_s": _middle(rounds.encoder),
        "efficiency": _ratio(new, rounds.encoder),
        "stored": min(each.stored for each in rounds.held),
        "lost": sum(each.lost for each in rounds.held),
        "duplicates": sum(each.duplicates for each in rounds.held),
        "rss_mb": round(max(rounds.rss_mb), 1),
        "rounds": plan.rounds,
        "spread": {
            "documents_per_s": _spread(new),
            "unchanged_documents_per_s": _spread(unchanged),
            "raw_points_per_s": _spread(points),
            "encoder_documents_per_s": _spread(rounds.encoder),
        },
        "worker_cpu_ms_per_unchanged_document": _cpu_ms(ours.unchanged, "worker"),
        "producer_cpu_ms_per_unchanged_document": _cpu_ms(ours.unchanged, "side"),
        "qdrant_cpu_ms_per_unchanged_document": _cpu_ms(ours.unchanged, "qdrant"),
        "redis_cpu_ms_per_unchanged_document": _cpu_ms(ours.unchanged, "redis"),
        "raw_client_cpu_ms_per_point": _cpu_ms(raw.new, "side"),
        "raw_qdrant_cpu_ms_per_point": _cpu_ms(raw.new, "qdrant"),
        "green_s": _green_s(ours.new) if plan.index else None,
        "raw_green_s": _green_s(raw.new) if plan.index else None,
        "torch_threads": plan.torch_threads,
        "peers": [_peer(name, passes, index=plan.index) for name, passes in rounds.peers.items()],
    }


def _peer(name: str, passes: Passes, *, index: bool) -> dict[str, Any]:
    new, unchanged = _rates(passes.new), _rates(passes.unchanged)
    return {
        "name": name,
        "documents_per_s": _middle(new),
        "unchanged_documents_per_s": _middle(unchanged),
        "points": max(passes.points),
        "cpu_ms_per_document": _cpu_ms(passes.new, "side"),
        "cpu_ms_per_unchanged_document": _cpu_ms(passes.unchanged, "side"),
        "qdrant_cpu_ms_per_document": _cpu_ms(passes.new, "qdrant"),
        "qdrant_cpu_ms_per_unchanged_document": _cpu_ms(passes.unchanged, "qdrant"),
        "green_s": _green_s(passes.new) if index else None,
        "spread": {"documents_per_s": _spread(new), "unchanged_documents_per_s": _spread(unchanged)},
    }


def _rates(passes: Sequence[Pass]) -> list[float]:
    return [each.rate for each in passes]


def _middle(rates: Sequence[float]) -> float:
    return round(median(rates), 1)


def _spread(rates: Sequence[float]) -> list[float]:
    return [round(min(rates), 1), round(max(rates), 1)]


def _ratio(these: Sequence[float], those: Sequence[float]) -> float:
    return round(median(one / other for one, other in zip(these, those, strict=True)), 3)


def _cpu_ms(passes: Sequence[Pass], party: str) -> float | None:
    spent = [(seconds, each.documents) for each in passes if (seconds := each.cpu_s[party]) is not None]
    return round(median(1e3 * seconds / documents for seconds, documents in spent), 4) if spent else None


def _green_s(passes: Sequence[Pass]) -> float:
    return round(median(each.green_s for each in passes), 2)
