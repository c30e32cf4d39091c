"""What waits, as both ledgers tell of it."""

from __future__ import annotations

from gristmill_schemas import JobReport, QueuedJob
from gristmill_schemas.errors import JobCancelled


def queued(report: JobReport, tokens: int) -> QueuedJob:
    """A job with so many tokens of unfinished work for one model."""
    return QueuedJob(
        job_id=report.job_id,
        collection=report.collection,
        tenant=report.tenant,
        priority=report.priority,
        documents=report.pending,
        tokens=tokens,
        paused=report.paused,
    )


def cancelled(job_id: str) -> JobCancelled:
    """For whoever hands over more of a job that somebody has cancelled."""
    return JobCancelled(
        f"job {job_id} was cancelled while its documents were handed over: it takes no more, and what waited of it is not "
        f"stored; `gristmill jobs show {job_id}` counts it, and what is enqueued again is a new job"
    )
