"""What waits, for which model and for whom, and whether anyone serves it: the ledger's counts beside the workers' words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, cast

from gristmill.ledger import Ledger, Waiting
from gristmill_schemas import ModelQueue, ModelTask, QueueReport

#: Jobs of each model that are told, those with the most work first.
_JOBS = 100
#: Tenants that are told to be at their limit, the latest first.
_TENANTS = 100


@dataclass
class _Crew:
    """Who stands ready for one model."""

    #: Workers that take work.
    workers: int = 0
    loading: int = 0
    #: What those who have measured say, tokens per second.
    rates: list[float] = field(default_factory=list)

    def tokens_per_s(self, remembered: float | None) -> float | None:
        """Of all together, those that load included; one that has not measured is taken for the others' like.

        Where nobody lives, of one. None where nobody has ever measured.
        """
        each = fmean(self.rates) if self.rates else remembered
        if each is None:
            return None
        return sum(self.rates) + each * (max(1, self.workers + self.loading) - len(self.rates))


def queue_report(ledger: Ledger, tenant: str | None = None, *, jobs: int = _JOBS) -> QueueReport:
    """Every model that has work, or somebody who serves or loads it; those with the most work first.

    With a tenant, only models that jobs wait for which are all its own, and of these nothing but what is in such jobs.

    Args:
        ledger: is asked.
        tenant: whose work is told.
        jobs: how many of each model are told, at most.
    """
    names = {info.digest: info.model for info in ledger.models() if info.task is ModelTask.EMBEDDING}
    waiting, crews = ledger.waiting(), _crews(ledger.workers(), names)
    queues = []
    for digest in waiting.keys() | (crews.keys() & names.keys()):
        there = waiting.get(digest, Waiting())
        queue = _whole(ledger, digest, there, jobs) if tenant is None else _own(ledger, digest, there, tenant)
        if tenant is None or queue.jobs:
            queues.append(_with_crew(queue, names.get(digest, ""), crews.get(digest, _Crew()), ledger.rate(digest)))
    ordered = sorted(queues, key=lambda each: (-each.tokens, each.model, each.model_digest))
    return QueueReport(models=tuple(ordered), limited=_limited(ledger, tenant))


def rate_of(ledger: Ledger, model_digest: str) -> float | None:
    """Tokens per second of all that serve or load a model, as they have measured; None where nobody ever has."""
    crew = _crews(ledger.workers(), {}).get(model_digest, _Crew())
    return crew.tokens_per_s(ledger.rate(model_digest))


def _limited(ledger: Ledger, tenant: str | None) -> tuple[str, ...]:
    since = ledger.tenants.limited()
    latest = sorted(since, key=lambda name: (-since[name], name))
    return tuple(name for name in latest if tenant in (None, name))[:_TENANTS]


def _whole(ledger: Ledger, digest: str, there: Waiting, jobs: int) -> ModelQueue:
    return ModelQueue(
        model_digest=digest,
        parcels=there.parcels,
        documents=there.documents,
        tokens=there.tokens,
        paused_tokens=there.paused_tokens,
        held_parcels=there.held_parcels,
        oldest_waiting_s=there.oldest_s,
        jobs=tuple(ledger.queued_jobs(digest, jobs)) if jobs and there.documents else (),
    )


def _own(ledger: Ledger, digest: str, there: Waiting, tenant: str) -> ModelQueue:
    """Parcels are not told: they hold others' documents, too."""
    every = ledger.queued_jobs(digest, there.parcels) if there.documents else []
    jobs = [job for job in every if job.tenant == tenant]
    return ModelQueue(
        model_digest=digest,
        parcels=0,
        documents=sum(job.documents for job in jobs),
        tokens=sum(job.tokens for job in jobs),
        paused_tokens=sum(job.tokens for job in jobs if job.paused),
        held_parcels=0,
        jobs=tuple(jobs[:_JOBS]),
    )


def _with_crew(queue: ModelQueue, model: str, crew: _Crew, remembered: float | None) -> ModelQueue:
    rate = crew.tokens_per_s(remembered)
    seconds = None if rate is None else queue.wanted_tokens / rate
    told = {"workers": crew.workers, "loading": crew.loading, "tokens_per_s": rate, "seconds": seconds}
    return queue.model_copy(update={"model": model, **told})


def _crews(workers: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, _Crew]:
    """By the models' digests. One that drains takes no more work."""
    digests = {name: digest for digest, name in names.items()}
    crews: dict[str, _Crew] = {}
    for status in workers.values():
        for each in _entries(status, "loading"):
            digest = each.get("model_digest") or digests.get(str(each.get("model")), "")
            crews.setdefault(str(digest), _Crew()).loading += 1
        for each in _entries(status, "engines") if status.get("state") != "draining" else ():
            crew = crews.setdefault(str(each.get("model_digest")), _Crew())
            crew.workers += 1
            if rate := each.get("tokens_per_s"):
                crew.rates.append(float(rate))
    return crews


def _entries(status: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    return iter(cast("list[Mapping[str, Any]]", status.get(name) or ()))
