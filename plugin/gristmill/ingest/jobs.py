"""Handles on what was handed over, and what became of it."""

from __future__ import annotations

import builtins
import contextlib
import logging
import time
from collections.abc import Callable, Generator, Sequence
from typing import cast

from gristmill.arguments import callback, identifier, integer, seconds, tenant_name
from gristmill.habits import Group, answers_habits
from gristmill.ingest.broker import messages_for
from gristmill.ingest.queue import rate_of
from gristmill.ledger import Ledger
from gristmill_schemas import Ahead, DeadLetter, JobReport, JobState, Rejection
from gristmill_schemas.errors import BrokerUnavailable, InvalidInput, WaitTimeout

log = logging.getLogger(__name__)

#: Sends the workers of a model so many messages (`Dispatcher.publish`).
Announce = Callable[[str, int], None]
#: Failures that a report gives the reasons of.
_REASONS = 3
#: Polling interval: quick at first, so that short jobs return at once, then slow, so that long ones cost nothing.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.5


@answers_habits
class Job:
    """What one `enqueue` or `delete` handed over. Any process can look at it: `client.jobs.get(job_id)`."""

    def __init__(self, ledger: Ledger, announce: Announce, job_id: str, rejections: Sequence[Rejection] = ()) -> None:
        """`announce`: tells the workers of a model of so many parcels."""
        self._ledger = ledger
        self._announce = announce
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

    def pause(self) -> JobReport:
        """Give nothing more of it to workers until it is resumed; what they have in hand goes on. Returns its report.

        Raises:
            InvalidInput: it is unknown, done or cancelled.
        """
        return self._steered(self._ledger.pause(self.id))

    def resume(self) -> JobReport:
        """End the pause, if there is one; workers are told at once. Raises as `pause` does."""
        waiting = self._ledger.resume(self.id)
        for model_digest, parcels in (waiting or {}).items():
            with contextlib.suppress(BrokerUnavailable):  # the reconciler sees that they wait
                self._announce(model_digest, messages_for(parcels))
        return self._steered(waiting is not None)

    def cancel(self) -> JobReport:
        """End it: what waits is not stored, and counted as `cancelled`; what workers have in hand may still end as ever.

        An older version of a document that is stored stays. Who still hands documents over gets `JobCancelled`.

        Raises:
            InvalidInput: it is unknown or done.
        """
        return self._steered(self._ledger.cancel(self.id))

    def _steered(self, taken: bool) -> JobReport:
        report = self.report()
        if not taken:
            raise InvalidInput(f"job {self.id} is over, and nothing was changed: {report.describe()}", field="job_id")
        return report

    def ahead(self) -> Ahead:
        """What workers do before it is done, by the fair order and as things stand; docs/explanation/fairness.md.

        All zeros where nothing of it is unfinished.
        """
        before = self._ledger.before(self.id)
        if before is None:
            return Ahead()
        rate = None if self._counters().paused else rate_of(self._ledger, before.model_digest)
        return Ahead(
            tokens=before.tokens,
            before_start=before.first,
            before_end=before.last,
            share=before.share,
            starts_in_s=None if rate is None else before.first / rate,
            ends_in_s=None if rate is None else (before.last + before.tokens) / rate,
        )

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

    def _what_now(self, report: JobReport) -> str:
        if report.paused:
            return f"it is paused: `gristmill jobs resume {self.id}` or `job.resume()` lets it go on"
        return "they go on. If nothing moves, see `gristmill doctor`: is a worker for this model running?"

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
                    f"{self._what_now(report)}",
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

    def pause(self) -> JobReport:
        """See `Job.pause`."""
        return self._job.pause()

    def resume(self) -> JobReport:
        """See `Job.resume`."""
        return self._job.resume()

    def cancel(self) -> JobReport:
        """See `Job.cancel`."""
        return self._job.cancel()

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

    def __init__(self, ledger: Ledger, announce: Announce) -> None:
        """`announce`: see `Job`."""
        self._ledger = ledger
        self._announce = announce

    def list(self, limit: int = 20, *, tenant: str | None = None) -> builtins.list[JobReport]:
        """Reports of the newest jobs, newest first; with a tenant, of those whose documents are all of this tenant."""
        return self._ledger.jobs(integer("limit", limit, 1), tenant_name(tenant))

    def get(self, job_id: str, *, tenant: str | None = None) -> Job:
        """A handle on one job. Raises InvalidInput where it is unknown or long forgotten, or not all of this tenant."""
        job, owner = Job(self._ledger, self._announce, identifier("job_id", job_id)), tenant_name(tenant)
        if owner is not None and ((report := self._ledger.report(job.id)) is None or report.tenant != owner):
            raise job._unknown()
        job.report()
        return job
