"""A handle on one `enqueue`: what became of its documents."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import cast

from gristmill.ledger import Ledger
from gristmill_schemas import JobReport, JobState, Rejection
from gristmill_schemas.errors import InvalidInput, WaitTimeout

#: Polling interval: quick at first, so that short jobs return at once, then slow, so that long ones cost nothing.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.5


class Job:
    """What one `enqueue` or `delete` handed over. Any process can look at it: `client.job(job_id)`."""

    def __init__(self, ledger: Ledger, job_id: str, rejections: Sequence[Rejection] = ()) -> None:
        self._ledger = ledger
        self.id = job_id
        #: Documents of this call that were never accepted, with their reasons. Known to this handle only.
        self.rejections = tuple(rejections)

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def report(self) -> JobReport:
        """Counters as they stand now. Raises InvalidInput where the job is unknown or long forgotten."""
        report = self._ledger.report(self.id)
        if report is None:
            raise InvalidInput(
                f"job {self.id!r} is unknown: finished jobs are forgotten after GRISTMILL_JOB_TTL_S seconds; "
                "`gristmill jobs list` shows those that are not"
            )
        return report

    def wait(self, timeout_s: float | None = None, *, progress: Callable[[JobReport], None] | None = None) -> JobReport:
        """Wait until every accepted document has come to its end.

        Args:
            timeout_s: longest wait; None waits as long as it takes.
            progress: called with every report that is looked at, the last one included.

        Raises:
            WaitTimeout: the time is over; the work itself goes on.
        """
        looks = self._looks(timeout_s, progress)
        while True:
            try:
                time.sleep(next(looks))
            except StopIteration as done:
                return cast("JobReport", done.value)

    def _looks(
        self, timeout_s: float | None, progress: Callable[[JobReport], None] | None
    ) -> Generator[float, None, JobReport]:
        """Look once per step; yields how long to pause, and returns the last report. Who pauses, and how, is not ours."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause = _FIRST_LOOK_S
        while True:
            report = self.report()
            if progress is not None:
                progress(report)
            if report.state is JobState.DONE:
                return report
            if until is not None and time.monotonic() >= until:
                raise WaitTimeout(
                    f"job {self.id}: {report.pending} of {report.accepted} documents unfinished after {timeout_s:g} s; "
                    "they go on. If nothing moves, see `gristmill doctor`: is a worker for this model running?"
                )
            yield pause
            pause = min(pause * 1.3, _LAST_LOOK_S)
