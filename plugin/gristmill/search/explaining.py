"""What a search says of itself with `explain=True`: what was applied, what was sent, and what took how long."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gristmill.search.retrieval import Asked, Retrieval
from gristmill.store.queries import listed
from gristmill_schemas import Explanation, SearchMode

#: Numbers of a vector that are shown.
_SHOWN = 4


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.took_ms: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """A stage has ended."""
        now = time.perf_counter()
        self.took_ms[stage] = round((now - self._last) * 1000, 3)
        self._last = now

    def total_ms(self) -> float:
        """Since the beginning."""
        return round((time.perf_counter() - self._began) * 1000, 3)


def explained(
    retrieval: Retrieval, asked: Asked, told: Mapping[str, Any], watch: Stopwatch, server_s: float | None
) -> Explanation:
    """The explanation of one list of hits; times are those of its whole batch."""
    how, conditions = retrieval.how, retrieval.conditions
    chosen = how.shape.boosts is not None or how.shape.diversity is not None
    sent = retrieval.request(asked)
    params = how.shape.params
    return Explanation(
        collection=retrieval.spec.name,
        **told,
        filter=None if conditions is None else _plain(conditions),
        query={**_plain(sent), **({"params": _plain(params)} if params else {})},
        candidates=how.shape.candidates if chosen or told["mode"] is SearchMode.HYBRID else None,
        took_ms={**watch.took_ms, "total": watch.total_ms()},
        server_ms=None if server_s is None else round(server_s * 1000, 3),
    )


def _plain(value: Any) -> Any:
    """As Qdrant's REST format has it, long vectors shortened to their beginnings."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json", exclude_none=True, exclude_unset=True, by_alias=True))
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    value = listed(value)
    if isinstance(value, list | tuple):
        if len(value) > _SHOWN and all(isinstance(each, float) for each in value):
            return [*value[:_SHOWN], f"… {len(value)} numbers"]
        return [_plain(each) for each in value]
    return value
