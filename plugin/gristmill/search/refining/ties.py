"""One order for hits of the same score, so that pages join up: by their ids.

Qdrant orders equals as they come, otherwise for each page, and fused ones otherwise at each request. So a look takes one
more hit on either side of its page. Where neither has the score of its neighbour on the page, the page holds whole groups
of equals, and is put in order. Where one has, all hits up to the end of its group are asked for, without their payload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

#: Hits up to which the end of a group of equals is looked for.
_FARTHEST = 10_000
_FIRST_LOOK = 64


class Scored(Protocol):
    """What is ordered."""

    @property
    def score(self) -> float:
        """Its score."""

    @property
    def key(self) -> str:
        """What orders it among equals."""


S = TypeVar("S", bound=Scored)


@dataclass(frozen=True, slots=True)
class Page(Generic[S]):
    """So many hits from a place on, by their scores."""

    offset: int
    limit: int
    #: Smaller scores come first.
    ascending: bool = False

    @property
    def start(self) -> int:
        """Where a first look begins."""
        return self.offset - self._lead

    @property
    def count(self) -> int:
        """How many hits it takes."""
        return self._lead + self.limit + 1

    @property
    def _lead(self) -> int:
        return min(self.offset, 1)

    def settled(self, seen: Sequence[S]) -> list[S] | None:
        """The page, out of a first look; None where a group of equals goes on beyond it."""
        lead, end = self._lead, self._lead + self.limit
        if lead < len(seen) and lead and seen[lead - 1].score == seen[lead].score:
            return None
        if end < len(seen) and seen[end - 1].score == seen[end].score:
            return None
        return self._ordered(seen[lead:end])

    def settle(self, look: Callable[[int], Sequence[S]]) -> list[S]:
        """The page, out of as many hits from the first on as it takes."""
        end = self.offset + self.limit
        count = end + _FIRST_LOOK
        while True:
            seen = look(count)
            if len(seen) < count or count >= _FARTHEST or seen[-1].score != seen[end - 1].score:
                return self._ordered(seen)[self.offset : end]
            count *= 4

    def _ordered(self, seen: Sequence[S]) -> list[S]:
        sign = 1 if self.ascending else -1
        return sorted(seen, key=lambda each: (sign * each.score, each.key))
