"""What somebody who looks at a mill has seen of it at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gristmill.ledger import HighWater
from gristmill.ledger.base import Load
from gristmill_schemas import DeadSummary, ModelQueue

#: Part of Redis's memory from which on producers wait: `Headroom` leaves the rest to work that is taken already.
FULL_SHARE = 7 / 8


@dataclass(frozen=True, slots=True)
class Memory:
    """Redis's memory."""

    used: int
    #: `maxmemory`; 0 where there is no limit.
    limit: int = 0
    policy: str = "noeviction"

    @property
    def share(self) -> float:
        """Part of the limit that is used; 0 where there is no limit."""
        return self.used / self.limit if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at everything; what could not be seen is empty or None."""

    #: Seconds since 1970.
    at: float
    redis_url: str = ""
    qdrant_url: str = ""
    #: Why it cannot be used; empty where it answers.
    redis_error: str = ""
    qdrant_error: str = ""
    #: How long Qdrant took for an answer that costs it nothing.
    qdrant_s: float = 0.0
    memory: Memory | None = None
    load: Load | None = None
    marks: HighWater | None = None
    #: What waits for each model.
    waiting: tuple[ModelQueue, ...] = ()
    #: By name, what each says of itself (`Host.status`).
    workers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dead: DeadSummary | None = None
