"""Handles on what was handed over, and what became of it."""

from __future__ import annotations

import builtins
import logging
import time
from collections.abc import Callable, Generator, Sequence
from typing import cast

from gristmill.arguments import callback, identifier, integer, seconds, tenant_name
from gristmill.habits import Group, answers_habits
from gristmill.ledger import Ledger
from gristmill_schemas import DeadLetter, JobReport, JobState, Rejection
from gristmill_schemas.errors import InvalidInput, WaitTimeout

log = logging.getLogger(__name__)

#: Failures that a report gives the reasons of.
_REASONS = 3
#: Polling interval: quick at first, so that short jobs return at once, then slow, so that long ones cost nothing.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.5


@answers_habits
class Job:
    """What one `enqueue` or `delete` handed over. Any process can look at it: `client.jobs.get(job_id)`."""

    def __init__(self, ledger: Ledger, job_id: str, rejections: Sequence[Rejection] = ()) -> None:
        self._ledger = ledger
        self.id = job_id
        #: Documents of this call that were never accepted, with their reasons. Known to this handle only.
        self.rejections = tuple(rejections)
        self._seen: JobReport | None = None

    def __repr__(self) -> str:
        """What was last seen of it: nothing is asked for this."""
        if self._seen is not None:
            return f"<Job {self.id} in {self._seen.collection!r}: {self._seen.describe()}>"
        return f"<Job {self.id}: {len(self.rejections)} rejected>" if self.rejections else f"<Job {self.id}>"

    def report(self) -> JobReport:
        """Counters as they stand now, and the first reasons why documents were rejected or died.

        Raises:
            InvalidInput: the job is unknown or long forgotten.
        """
        report = self._counters()
        self._seen = report.model_copy(update={"reasons": self._reasons(report)})
        return self._seen

    def _counters(self) -> JobReport:
        report = self._ledger.report(self.id)
        if report is None:
            raise self._unknown()
        self._seen = report
        return report

    def _unknown(self) -> InvalidInput:
        if self._seen is None:
            known = f"`gristmill jobs list` shows those that are known; {self.id!r} is not among them"
        else:
            known = f"when last looked at: {self._seen.describe()}"
        return InvalidInput(
            f"job {self.id!r} is unknown: it had finished and was forgotten (GRISTMILL_JOB_TTL_S, GRISTMILL_JOBS_KEPT), or "
            f"Redis has lost it; {known}. `gristmill receipt` says of any document where it is",
            field="job_id",
        )

    def behind(self) -> int:
        """Unfinished documents of other jobs that wait for the same model; collections take turns, each in its own order."""
        return self._ledger.others(self.id)

    def _reasons(self, report: JobReport) -> tuple[str, ...]:
        letters = self._ledger.dead_letters(_REASONS, job_id=self.id) if report.dead else []
        return (*(str(each) for each in self.rejections[:_REASONS]), *map(_reason, letters))

    def wait(self, timeout_s: float | None = None, *, progress: Callable[[JobReport], None] | None = None) -> JobReport:
        """Wait until every accepted document has come to its end.

        Args:
            timeout_s: longest wait; None waits as long as it takes.
            progress: called with every report that is looked at, the last one included.

        Returns:
            The last report. It says how many documents died or were rejected, why the first of them, and how to see the
            rest; so does a line in the log. `report.raise_for_failures()` makes an error of it.

        Raises:
            WaitTimeout: the time is over; the work itself goes on.
            InvalidInput, BrokerUnavailable, BrokerRefused.
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
        callback("progress", progress)
        limit_s = seconds("timeout_s", timeout_s)
        until = None if limit_s is None else time.monotonic() + limit_s
        pause = _FIRST_LOOK_S
        while True:
            report = self._counters()
            if report.state is JobState.DONE:
                report = self.report()
            if progress is not None:
                progress(report)
            if report.state is JobState.DONE:
                log.log(logging.WARNING if report.dead or report.rejected else logging.INFO, "%r", report)
                return report
            if until is not None and time.monotonic() >= until:
                raise WaitTimeout(
                    f"job {self.id}: {report.pending} of {report.accepted} documents unfinished after {timeout_s:g} s; "
                    "they go on. If nothing moves, see `gristmill doctor`: is a worker for this model running?",
                    collection=report.collection,
                )
            yield pause
            pause = min(pause * 1.3, _LAST_LOOK_S)


def _reason(letter: DeadLetter) -> str:
    document_id, _ = letter.identity
    return f"{repr(document_id) if document_id else letter.id} died: {letter.error}: {letter.reason[:200]}"


@answers_habits
class TenantJob:
    """A job of one tenant, as its own client sees it: nothing in it is about others."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job).replace("<Job", "<TenantJob", 1)

    @property
    def id(self) -> str:
        """See `Job.id`."""
        return self._job.id

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """See `Job.rejections`."""
        return self._job.rejections

    def report(self) -> JobReport:
        """See `Job.report`."""
        return self._job.report()

    def wait(self, timeout_s: float | None = None, *, progress: Callable[[JobReport], None] | None = None) -> JobReport:
        """See `Job.wait`."""
        return self._job.wait(timeout_s, progress=progress)

    def _looks(
        self, timeout_s: float | None, progress: Callable[[JobReport], None] | None
    ) -> Generator[float, None, JobReport]:
        return self._job._looks(timeout_s, progress)


@answers_habits
class Jobs(Group):
    """`client.jobs`: what was handed over, by any process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def list(self, limit: int = 20, *, tenant: str | None = None) -> builtins.list[JobReport]:
        """Reports of the newest jobs, newest first; with a tenant, of those whose documents are all of this tenant."""
        return self._ledger.jobs(integer("limit", limit, 1), tenant_name(tenant))

    def get(self, job_id: str, *, tenant: str | None = None) -> Job:
        """A handle on one job. Raises InvalidInput where it is unknown or long forgotten, or not all of this tenant."""
        job, owner = Job(self._ledger, identifier("job_id", job_id)), tenant_name(tenant)
        if owner is not None and ((report := self._ledger.report(job.id)) is None or report.tenant != owner):
            raise job._unknown()
        job.report()
        return job
