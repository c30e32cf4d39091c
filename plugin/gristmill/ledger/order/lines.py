"""Lines of parcels, in this process: as `scripts/_lines.lua` has them in Redis."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from math import inf
from typing import Protocol

from gristmill.ledger.order.fair import FairQueue, Path

#: Lines that are woken in one go.
_AT_ONCE = 100


class Book(Protocol):
    """What lines have to know of jobs and parcels."""

    def path(self, job_id: str) -> Path:
        """Where a job stands."""

    def is_stopped(self, job_id: str, parcel_id: str | None = None) -> bool:
        """Whether it is paused or cancelled; and this parcel of it is not given out for all that."""

    def collection(self, parcel_id: str) -> str:
        """Whose rests a parcel heeds."""

    def tokens(self, parcel_id: str) -> int:
        """How much work it is."""


class Lines:
    """Whatever waits for one model: a line per job, by when its parcels are due."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._fair = FairQueue()
        #: Heaps of (when it is due, parcel id), none empty.
        self._waiting: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
        #: Jobs that are not in the fair queue, and when they may be again.
        self._later: dict[str, float] = {}
        self._rests: dict[str, float] = {}

    def join(self, parcel_id: str, job_id: str, due: float, now: float) -> None:
        """A parcel waits."""
        heapq.heappush(self._waiting[job_id], (due, parcel_id))
        self._realign(job_id, now)

    def step_out(self, parcel_id: str, job_id: str, now: float) -> None:
        """It waits no more."""
        left = [each for each in self._waiting.pop(job_id, []) if each[1] != parcel_id]
        if left:
            heapq.heapify(left)
            self._waiting[job_id] = left
        self._realign(job_id, now)

    def _realign(self, job_id: str, now: float) -> None:
        if job_id not in self._waiting:
            self._later.pop(job_id, None)
            self._fair.leave(self._book.path(job_id))
        elif (due := self._waiting[job_id][0][0]) > now:
            self._later[job_id] = due
        else:
            self._later.pop(job_id, None)
            self._fair.enter(self._book.path(job_id))

    def rest(self, collection: str, until: float) -> None:
        """Nothing of the collection is due before; the longer of two rests stays."""
        self._rests[collection] = max(until, self._rests.get(collection, 0.0))

    def _opens_at(self, job_id: str) -> float:
        due, parcel_id = self._waiting[job_id][0]
        if self._book.is_stopped(job_id, parcel_id):
            return inf
        return max(due, self._rests.get(self._book.collection(parcel_id), 0.0))

    def _wake(self, now: float) -> None:
        due = sorted((at, job_id) for job_id, at in self._later.items() if at <= now)
        for _, job_id in due[:_AT_ONCE]:
            del self._later[job_id]
            self._fair.enter(self._book.path(job_id))

    def next(self, now: float) -> str | None:
        """Take the next parcel out of its line, and charge for it."""
        self._wake(now)
        while path := self._fair.leading():
            job_id = path.job[16:]
            if job_id not in self._waiting:
                self._fair.leave(path)
            elif (opens := self._opens_at(job_id)) > now:
                self._put_off(path, job_id, opens)
            else:
                return self._take(path, job_id, now)
        return None

    def _put_off(self, path: Path, job_id: str, until: float) -> None:
        self._later[job_id] = until
        self._fair.leave(path)

    def _take(self, path: Path, job_id: str, now: float) -> str:
        line = self._waiting[job_id]
        _, parcel_id = heapq.heappop(line)
        self._fair.charge(path, self._book.tokens(parcel_id))
        if not line:
            del self._waiting[job_id]
            self._fair.leave(path)
        elif line[0][0] > now:
            self._put_off(path, job_id, line[0][0])
        return parcel_id

    def leave(self, job_id: str) -> None:
        """Where the job stands is about to change; `resume` puts it there."""
        self._fair.leave(self._book.path(job_id))

    def parcels(self, job_id: str) -> list[str]:
        """Ids of those of a job that wait."""
        return [parcel_id for _, parcel_id in self._waiting.get(job_id, [])]

    def is_due(self, job_id: str) -> bool:
        """Whether what waits of a job may be given out, as far as is known."""
        return job_id not in self._later and not self._book.is_stopped(job_id)

    def tags(self, job_id: str) -> dict[tuple[str, ...], dict[str, float]]:
        """Start tags at each node on the job's way."""
        return self._fair.tags(self._book.path(job_id))

    def resume(self, job_id: str, now: float) -> None:
        """The job is not stopped any more, or stands elsewhere."""
        if job_id in self._waiting:
            self._realign(job_id, now)

    def open(self, now: float) -> Iterator[list[tuple[float, str]]]:
        """Of each line whose first parcel may be claimed now, what is due of it, the first of all first."""
        for job_id, line in self._waiting.items():
            if line[0][0] <= now and self._opens_at(job_id) <= now:
                yield sorted(each for each in line if each[0] <= now)
