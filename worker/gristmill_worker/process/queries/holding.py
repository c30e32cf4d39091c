"""What a lane has taken and not yet answered, and whether it may take more.

It may while all that it holds will be answered in half of the time that is left to the nearest deadline. How long that takes
is told by what was answered last: seconds per query, quick to rise and slow to fall, times the queries that it holds; and by
the oldest, which takes at least as long again as it has taken so far. So a worker that is slow, or stuck behind a long
batch, leaves queries to the others; one that has not answered any yet takes one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Bytes of a request that count as one query more.
_QUERY_BYTES = 2048
#: Of a measured pace, as much counts that is faster than before.
_FASTER = 0.3
#: Of the time that is left, what the answer may take.
_SHARE = 0.5


@dataclass(eq=False, slots=True)
class Held:
    """A request that was taken."""

    body: bytes
    #: Monotonic seconds.
    taken_at: float
    #: When nobody waits for it any more, in the same.
    until: float
    #: In queries: of this one, and of all that was held once it was taken.
    work: float
    ahead: float = 0.0
    #: It went back to the queue, though it may still be answered from here.
    given_back: bool = False


class Holding:
    """Shared by the thread that takes and those that answer."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most`: requests at once."""
        self._most = most
        self._clock = clock
        self._held: list[Held] = []
        self._changed = threading.Condition()
        #: Seconds per query; None until the first was answered.
        self._pace: float | None = None

    def __len__(self) -> int:
        return len(self._held)

    def bodies(self) -> set[bytes]:
        """Of all that is held."""
        with self._changed:
            return {each.body for each in self._held}

    def may_take(self) -> bool:
        """Whether one more may be taken."""
        with self._changed:
            if not self._held:
                return True
            if len(self._held) >= self._most or self._pace is None:
                return False
            now = self._clock()
            work = 1 + sum(each.work for each in self._held)
            oldest_s = now - min(each.taken_at for each in self._held)
            left_s = min(each.until for each in self._held) - now
            return max(work * self._pace, oldest_s) <= left_s * _SHARE

    def wait(self, at_most_s: float) -> None:
        """Wait until less is held."""
        with self._changed:
            if self._held:
                self._changed.wait(at_most_s)

    def add(self, body: bytes, waits_s: float) -> Held:
        """Hold a request whose answer is waited for so long."""
        now = self._clock()
        new = Held(body, now, now + waits_s, 1 + len(body) / _QUERY_BYTES)
        with self._changed:
            self._held.append(new)
            new.ahead = sum(each.work for each in self._held)
        return new

    def remove(self, held: Held, *, encoded: bool) -> None:
        """It was answered, or let go of; `encoded` where the time that it took tells how fast this lane is."""
        with self._changed:
            self._held.remove(held)
            if encoded:
                pace = (self._clock() - held.taken_at) / held.ahead
                known = pace if self._pace is None else self._pace
                self._pace = max(pace, _FASTER * pace + (1 - _FASTER) * known)
            self._changed.notify()

    def overdue(self) -> list[Held]:
        """What should have been answered by now, each once: others may still do it in time."""
        with self._changed:
            now = self._clock()
            late = [each for each in self._held if not each.given_back and now - each.taken_at > each.until - now]
            for each in late:
                each.given_back = True
            return late
