"""From rounds to figures: medians, with the lowest and the highest of the rounds beside each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import median
from typing import Any, Final

from gristmill_worker.bench.pipeline.records import Pass, Passes, Plan, Rounds
from gristmill_worker.encoder.open import card_rate

#: What each round gave, or nothing where it cannot be seen.
_Series = Mapping[str, Sequence[float]]

#: The keys that come first, in the order in which they are read.
_FIRST: Final = (
    *("encoder", "documents", "dimensions", "workers"),
    *("documents_per_s", "unchanged_documents_per_s", "raw_points_per_s", "ceiling_fraction"),
    *(f"{party}_cpu_ms_per_document" for party in ("worker", "producer", "qdrant", "redis")),
    *("encoder_documents_per_s", "efficiency", "stored", "lost", "duplicates", "rss_mb", "rounds"),
)


def report(plan: Plan, rounds: Rounds) -> dict[str, Any]:
    """The keys of `gristmill bench pipeline --json`. Ratios are medians of each round's own."""
    series = {
        **_ours(rounds, index=plan.index),
        **(_scaling(rounds) if plan.scaling else {}),
        **_raw(rounds.raw, index=plan.index),
    }
    figures = {
        "encoder": plan.encoder,
        "documents": plan.documents,
        "dimensions": rounds.dimensions,
        "workers": plan.workers,
        "torch_threads": plan.torch_threads,
        "rounds": plan.rounds,
        "stored": min(each.stored for each in rounds.held),
        "lost": sum(each.lost for each in rounds.held),
        "duplicates": sum(each.duplicates for each in rounds.held),
        "rss_mb": round(max(rounds.rss_mb), 1),
        **_medians(series),
        "indexed": _indexed(rounds.ours, index=plan.index),
        "raw_indexed": _indexed(rounds.raw, index=plan.index),
    }
    first = {key: figures.pop(key) for key in _FIRST}
    peers = [_peer(name, passes, index=plan.index) for name, passes in rounds.peers.items()]
    waited: dict[str, Any] = {"worker_idle": _middle(rounds.worker_idle)}
    if plan.encoder.startswith("card:"):
        waited["card_idle"] = _card_idle(plan, rounds)
    waited["launch_ms"], waited["encoder_launch_ms"] = _middle(rounds.launch_ms), _middle(rounds.encoder_launch_ms)
    return {**first, **waited, "spread": _spreads(series), **figures, "peers": peers}


def _middle(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: round(median(one[key] for one in each), 4) for key in dict.fromkeys(chain(*each))}


def _card_idle(plan: Plan, rounds: Rounds) -> float:
    """Which part of the time simulated cards had nothing to do while new documents came."""
    busy_s = rounds.tokens / card_rate(plan.encoder) / plan.workers
    return round(median(1 - busy_s / each.seconds for each in rounds.ours.new), 4)


def _ours(rounds: Rounds, *, index: bool) -> _Series:
    new, raw = _rates(rounds.ours.new), _rates(rounds.raw.new)
    return {
        **_side(rounds.ours, {"worker": "worker", "side": "producer", "qdrant": "qdrant", "redis": "redis"}),
        "ceiling_fraction": _ratios(new, raw),
        "encoder_documents_per_s": rounds.encoder,
        "efficiency": _ratios(new, rounds.encoder),
        "green_s": _green_s(rounds.ours, index=index),
    }


def _scaling(rounds: Rounds) -> _Series:
    """All workers against one of them, and as many encoders alone against one."""
    one = _rates(rounds.one)
    return {
        "scaling": _ratios(_rates(rounds.ours.new), one),
        "encoder_scaling": _ratios(rounds.encoder, rounds.one_encoder),
        "one_worker_documents_per_s": one,
        "one_worker_efficiency": _ratios(one, rounds.one_encoder),
    }


def _raw(passes: Passes, *, index: bool) -> _Series:
    return {
        "raw_points_per_s": _rates(passes.new),
        "raw_client_cpu_ms_per_point": _cpu_ms(passes.new, "side"),
        "raw_qdrant_cpu_ms_per_point": _cpu_ms(passes.new, "qdrant"),
        "raw_green_s": _green_s(passes, index=index),
    }


def _peer(name: str, passes: Passes, *, index: bool) -> dict[str, Any]:
    series = {
        **{key.removeprefix("client_"): values for key, values in _side(passes, _OF_A_PEER).items()},
        "green_s": _green_s(passes, index=index),
    }
    return {
        "name": name,
        "points": max(passes.points),
        **_medians(series),
        "indexed": _indexed(passes, index=index),
        "spread": _spreads(series),
    }


_OF_A_PEER: Final = {"side": "client", "qdrant": "qdrant"}


def _side(passes: Passes, parties: Mapping[str, str]) -> _Series:
    """Rates of both passes, and what each party (by our name of it, and the one that is shown) spent in them."""
    both = (("", passes.new), ("unchanged_", passes.unchanged))
    rates = {f"{kind}documents_per_s": _rates(these) for kind, these in both}
    spent = {
        f"{shown}_cpu_ms_per_{kind}document": _cpu_ms(these, party)
        for kind, these in both
        for party, shown in parties.items()
    }
    return {**rates, **spent}


def _rates(passes: Sequence[Pass]) -> list[float]:
    return [each.rate for each in passes]


def _ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(these, those, strict=True)]


def _cpu_ms(passes: Sequence[Pass], party: str) -> list[float]:
    return [1e3 * seconds / each.documents for each in passes if (seconds := each.cpu_s[party]) is not None]


def _green_s(passes: Passes, *, index: bool) -> list[float]:
    return [each.green_s for each in passes.new] if index else []


def _indexed(passes: Passes, *, index: bool) -> int | None:
    """The fewest of all rounds."""
    return min(each.indexed for each in passes.new) if index else None


def _medians(series: _Series) -> dict[str, float | None]:
    return {key: _short(median(values)) if values else None for key, values in series.items()}


def _spreads(series: _Series) -> dict[str, list[float]]:
    return {key: [_short(min(values)), _short(max(values))] for key, values in series.items() if values}


def _short(value: float) -> float:
    return round(value, 1 if value >= 100 else 4)
