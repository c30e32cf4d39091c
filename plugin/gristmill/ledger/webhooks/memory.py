"""Webhooks in this process: the same laws, for embedded mode and unit tests."""

from __future__ import annotations

import builtins
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice

from gristmill.ledger.webhooks.base import DueWebhook, origin_of
from gristmill_schemas import JobReport, Webhook, WebhookState


@dataclass
class _Kept:
    url: str
    job: JobReport
    finished_at: float
    due: float
    attempts: int = 0
    error: str = ""
    failed: bool = False


class MemoryWebhooks:
    """`Webhooks` in memory."""

    def __init__(
        self,
        lock: threading.RLock,
        now: Callable[[], float],
        kept: int,
        ttl_s: float,
        note: Callable[[str, WebhookState], None],
    ) -> None:
        """`kept` and `ttl_s`: how many, and for how long. `note`: what became of a job's webhook."""
        self._lock = lock
        self._now = now
        self._most, self._ttl_s = kept, ttl_s
        self._note = note
        #: The oldest first.
        self._all: dict[str, _Kept] = {}
        #: When an origin was last served, as a number that grows.
        self._turns: defaultdict[str, int] = defaultdict(int)
        self._served = 0

    def queue(self, job: JobReport, url: str, finished_at: float) -> None:
        """A job is done."""
        self._note(job.job_id, WebhookState.WAITING)
        self._all[f"{job.job_id}.{finished_at * 1_000_000:.0f}"] = _Kept(url, job, finished_at, finished_at)
        self.forget()

    def forget(self) -> None:
        """Those whose time is over, and those beyond the number that is kept."""
        over = self._now() - self._ttl_s
        while self._all:
            oldest, kept = next(iter(self._all.items()))
            if len(self._all) <= self._most and kept.finished_at > over:
                return
            self.drop([oldest])

    def take(self, lease_s: float, busy: Collection[str] = ()) -> DueWebhook | None:
        """See `Webhooks.take`."""
        with self._lock:
            now = self._now()
            due = [
                (self._turns[origin], kept.due, webhook_id)
                for webhook_id, kept in self._all.items()
                if kept.due <= now and not kept.failed and (origin := origin_of(kept.url)) not in busy
            ]
            return self._taken(min(due)[2], now + lease_s) if due else None

    def _taken(self, webhook_id: str, until: float) -> DueWebhook:
        kept = self._all[webhook_id]
        self._served += 1
        self._turns[origin_of(kept.url)] = self._served
        kept.due = until
        kept.attempts += 1
        return DueWebhook(webhook_id, kept.url, kept.attempts, kept.job, kept.finished_at)

    def delivered(self, webhook: DueWebhook) -> bool:
        """See `Webhooks.delivered`."""
        with self._lock:
            if self._newest_attempt(webhook) is None:
                return False
            del self._all[webhook.id]
            self._note(webhook.job.job_id, WebhookState.DELIVERED)
            return True

    def postpone(self, webhook: DueWebhook, error: str, delay_s: float) -> bool:
        """See `Webhooks.postpone`."""
        with self._lock:
            if kept := self._newest_attempt(webhook):
                kept.error, kept.due = error, self._now() + delay_s
            return kept is not None

    def give_up(self, webhook: DueWebhook, error: str) -> bool:
        """See `Webhooks.give_up`."""
        with self._lock:
            if kept := self._newest_attempt(webhook):
                kept.error, kept.failed = error, True
                self._note(kept.job.job_id, WebhookState.FAILED)
            return kept is not None

    def _newest_attempt(self, webhook: DueWebhook) -> _Kept | None:
        kept = self._all.get(webhook.id)
        return kept if kept is not None and kept.attempts == webhook.attempt else None

    def list(self, limit: int, state: WebhookState | None = None, job_id: str | None = None) -> builtins.list[Webhook]:
        """See `Webhooks.list`."""
        with self._lock:
            newest = (_webhook(*item) for item in reversed(self._all.items()))
            chosen = (each for each in newest if state in (None, each.state) and job_id in (None, each.job_id))
            return builtins.list(islice(chosen, limit))

    def resend(self, ids: Iterable[str]) -> int:
        """See `Webhooks.resend`."""
        with self._lock:
            there = [kept for each in ids if (kept := self._all.get(each))]
            for kept in there:
                kept.attempts, kept.failed, kept.due = 0, False, self._now()
                self._note(kept.job.job_id, WebhookState.WAITING)
            return len(there)

    def drop(self, ids: Iterable[str]) -> int:
        """See `Webhooks.drop`."""
        with self._lock:
            there = [kept for each in ids if (kept := self._all.pop(each, None))]
            for kept in there:
                self._note(kept.job.job_id, WebhookState.FAILED)
            return len(there)

    def disown(self, theirs: Callable[[str | None, str], bool], *, looking: bool) -> int:
        """Let those name nobody that tell of a job of this tenant and collection; returns how many. Or `looking` only."""
        named = [kept for kept in self._all.values() if theirs(kept.job.tenant, kept.job.collection)]
        for kept in () if looking else named:
            kept.job = kept.job.model_copy(update={"tenant": None})
        return len(named)

    def count(self) -> int:
        """See `Webhooks.count`."""
        return len(self._all)


def _webhook(webhook_id: str, kept: _Kept) -> Webhook:
    return Webhook(
        id=webhook_id,
        job_id=kept.job.job_id,
        collection=kept.job.collection,
        origin=origin_of(kept.url),
        state=WebhookState.FAILED if kept.failed else WebhookState.WAITING,
        attempts=kept.attempts,
        created_at=kept.finished_at,
        next_attempt_at=None if kept.failed else kept.due,
        error=kept.error,
    )
