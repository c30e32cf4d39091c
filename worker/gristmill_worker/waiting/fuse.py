"""The fuse: many equal deaths in a row and nothing stored between them are no accident of the documents.

A document that is about to be buried first goes on trial here. What is stored meanwhile shows that the system works, and
the verdict stands. When deaths of one kind pile up with nothing between them, the fuse blows: nobody is buried, the
parcels go back with their attempts, and this engine pulls work only to see whether it goes again, at growing intervals.
"""

from __future__ import annotations

import threading
import time

from gristmill_worker.waiting.notices import Notices, Waits

#: Equal deaths in a row that blow the fuse.
MOST_DEATHS = 100
#: How long a death waits for a sign that the system works, before it stands without one.
TRIAL_S = 2.0
#: First and longest pause of a blown fuse.
_FIRST_REST_S, _LONGEST_REST_S = 2.0, 60.0


class Fuse:
    """One per engine, shared by its task threads."""

    def __init__(self, notices: Notices, *, most_deaths: int = MOST_DEATHS, trial_s: float | None = None) -> None:
        self._notices = notices
        self._most_deaths = most_deaths
        self._trial_s = TRIAL_S if trial_s is None else trial_s
        self._news = threading.Condition()
        self._kind = ""
        self._run = 0
        self._successes = 0
        self._rest_s = 0.0
        self._rests_until = 0.0

    @property
    def blown(self) -> bool:
        """Whether deaths are held back until something is stored."""
        return self._rest_s > 0

    @property
    def resting(self) -> bool:
        """Whether no work should be pulled now."""
        return time.monotonic() < self._rests_until

    def stored(self) -> None:
        """Something was stored, so the system works."""
        with self._news:
            self._run, self._kind, self._rest_s, self._rests_until = 0, "", 0.0, 0.0
            self._successes += 1
            self._news.notify_all()
        self._notices.drop(self)

    def stands(self, kind: str, deaths: int, reason: str) -> bool:
        """Whether so many documents may be buried for this kind of error; may wait a moment for the answer.

        Args:
            kind: class of the error.
            deaths: documents of one parcel that would die of it.
            reason: in the error's own words, for people.
        """
        with self._news:
            self._run = self._run + deaths if kind == self._kind else deaths
            self._kind = kind
            # A parcel may hold more than the mark by itself: it has its trial, and stands only if that shows a success.
            alone = deaths >= self._most_deaths
            if self.blown or (self._run >= self._most_deaths and not alone):
                self._blow(reason)
                return False
            before = self._successes
            self._news.wait_for(lambda: self._successes > before or self.blown, self._trial_s)
            if alone and self._successes == before and not self.blown:
                self._blow(reason)
            return self._successes > before or not self.blown

    def _blow(self, reason: str) -> None:
        if not self.resting:
            self._rest_s = min(max(2 * self._rest_s, _FIRST_REST_S), _LONGEST_REST_S)
            self._rests_until = time.monotonic() + self._rest_s
        self._notices.put(
            self,
            Waits.ALIKE,
            f"{self._run} documents in a row failed alike and none was stored in between, so none of them is given up: "
            f"{self._kind}: {reason}. Check what they have in common: the store's address and settings, the model, the "
            "collection. It goes on by itself once one can be stored",
        )
        self._news.notify_all()
