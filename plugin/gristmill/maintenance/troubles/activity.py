"""What workers did between two looks, from counters that only grow.

Heartbeats come every few seconds and looks at other times. So a rate is not by the time between the looks: idle seconds and
busy ones together are the time that an engine itself has counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: By name, what each says of itself.
Workers = Mapping[str, Mapping[str, Any]]
#: Where an engine's time goes, the order in which it is shown.
CAUSES = ("busy", "tokens", "store", "no_work")


@dataclass(frozen=True, slots=True)
class Activity:
    """Of all engines together."""

    #: Engines that were heard of twice, and the seconds that they have counted in between, added up.
    engines: int = 0
    seconds: float = 0.0
    #: The sums of all engines' rates.
    texts_per_s: float = 0.0
    tokens_per_s: float = 0.0
    #: Parts of the engines' time by `CAUSES`; they add up to 1, or there are none.
    shares: Mapping[str, float] = field(default_factory=dict)


def activity_between(before: Workers, now: Workers) -> Activity:
    """What those who were there at both looks have done in between. One that was started anew has another name."""
    deltas = [delta for delta in _deltas(before, now) if delta["seconds"] > 0]
    seconds = sum(each["seconds"] for each in deltas)
    if not deltas:
        return Activity()
    return Activity(
        engines=len(deltas),
        seconds=seconds,
        texts_per_s=sum(each["texts_done"] / each["seconds"] for each in deltas),
        tokens_per_s=sum(each["tokens_done"] / each["seconds"] for each in deltas),
        shares={cause: sum(each[cause] for each in deltas) / seconds for cause in CAUSES},
    )


def _deltas(before: Workers, now: Workers) -> Iterator[dict[str, float]]:
    known = dict(_engines(before))
    for key, engine in _engines(now):
        if key in known:
            then, counted = _counted(known[key]), _counted(engine)
            yield {name: max(0.0, value - then[name]) for name, value in counted.items()}


def _engines(workers: Workers) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    for name, status in workers.items():
        for engine in status.get("engines", ()):
            if isinstance(engine.get("idle"), Mapping):
                yield (name, str(engine.get("model_digest", ""))), engine


def _counted(engine: Mapping[str, Any]) -> dict[str, float]:
    idle = {cause: _number(engine["idle"].get(cause)) for cause in CAUSES}
    # Servers that are away are troubles of their own, and told as such; here nothing was done.
    idle["no_work"] += sum(_number(seconds) for cause, seconds in engine["idle"].items() if cause not in CAUSES)
    # `tokens` is the name of a counter and of a cause.
    counters = {"texts_done": _number(engine.get("texts")), "tokens_done": _number(engine.get("tokens"))}
    return {**idle, **counters, "seconds": sum(idle.values())}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
