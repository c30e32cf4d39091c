"""What a worker's heartbeat says about how much it can do: the rates that it has measured, and the models that it loads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

#: How long the ledger remembers how fast the last workers of a model were: longer than any installation rests.
RATE_TTL_S = 90 * 86_400
#: What a worker is taken to encode where none has ever measured, unless the settings say otherwise.
TOKENS_PER_S = 5_000.0
#: Most seconds of work that are counted out for autoscalers: an hour calls for as many workers as anybody allows.
MOST_SECONDS = 3_600


def capacity_prelude(tokens_per_s: float) -> str:
    """What scripts need to know of it, in Lua; `tokens_per_s` of a worker where none has measured."""
    return f"local TOKENS_PER_S, MOST_SECONDS = {tokens_per_s}, {MOST_SECONDS}\n"


def seconds_key(key_prefix: str, model_digest: str) -> str:
    """Name of the list in Redis that is as long as a model's seconds of work."""
    return f"{{{key_prefix}}}:seconds:{model_digest}"


def seconds_of(tokens: int, tokens_per_s: float) -> int:
    """Seconds of one worker, whole ones, as `count_seconds` counts them in Redis."""
    return min(MOST_SECONDS, math.ceil(tokens / tokens_per_s))


class Standing(NamedTuple):
    """How one worker stands to one model."""

    model_digest: str
    #: Useful tokens per second of work; None before it has measured.
    tokens_per_s: float | None = None
    #: It will serve the model once that is loaded.
    loading: bool = False


def standings(status: Mapping[str, object]) -> Iterator[Standing]:
    """How a worker stands to each of its models, by its status; whatever else stands there is passed over."""
    for each in _named(status.get("engines")):
        yield Standing(cast("str", each["model_digest"]), _rate(each.get("tokens_per_s")))
    for each in _named(status.get("loading")):
        yield Standing(cast("str", each["model_digest"]), loading=True)


def _named(entries: object) -> Iterator[Mapping[str, object]]:
    for each in entries if isinstance(entries, Sequence) else ():
        if isinstance(each, Mapping) and isinstance(each.get("model_digest"), str):
            yield each


def _rate(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else None
