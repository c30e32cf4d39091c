"""How fast a worker is while it works: useful tokens per second, for whoever asks how long what waits will take.

A batch says what a worker can do as far as it is full: one text alone takes nearly as long as a thousand together. So it
counts by the part of the budget that it fills, and a day of lonely documents neither hides what a burst has shown nor makes
it old: what ages a measurement is newer measurement, and no time passes while nothing is done. Queries do not count.
"""

from __future__ import annotations

from collections.abc import Callable

#: After so many seconds of work in full batches, what came before counts half.
_HALF_S = 30.0
#: Work that must have been seen before anything is said, in full batches.
_LEAST_BATCHES = 1 / 16


class RateMeter:
    """Belongs to the thread that works; anybody may read `tokens_per_s`."""

    def __init__(self, busy_s: Callable[[], float]) -> None:
        """`busy_s`: how long the worker has worked until now, seconds; it stands still while there is nothing to do."""
        self._busy_s = busy_s
        self._until = busy_s()
        self._tokens = self._seconds = self._batches = 0.0
        #: Useful tokens per second of work; None before enough was seen.
        self.tokens_per_s: float | None = None

    def done(self, tokens: int, budget: int) -> None:
        """A batch of so many tokens is done, that took whatever work there was since the last.

        Args:
            tokens: of texts, without padding.
            budget: that a batch may hold.
        """
        took = self.skip()
        share = min(1.0, tokens / budget)
        fading = 0.5 ** (share * took / _HALF_S)
        self._tokens = self._tokens * fading + share * tokens
        self._seconds = self._seconds * fading + share * took
        self._batches += share
        if self._seconds > 0 and self._batches >= _LEAST_BATCHES:
            self.tokens_per_s = self._tokens / self._seconds

    def skip(self) -> float:
        """What was worked on since the last batch does not count; returns the seconds that it took."""
        before, self._until = self._until, self._busy_s()
        return self._until - before
