"""The sender: one of an installation's workers sends what is due, on threads of its own.

A receiver that is slow or away takes up two of them at most, and holds up neither other receivers nor any other duty. What
is taken and not settled, since its worker was killed, is due again after a lease: a webhook is sent at least once, and a
copy of it has the same id.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

from gristmill.ledger import Ledger
from gristmill.ledger.webhooks.base import DueWebhook
from gristmill_schemas.errors import GristmillError
from gristmill_worker.concerning import concerning
from gristmill_worker.metering.instruments import Counts
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting.notices import Notices, Waits
from gristmill_worker.webhooks.delivery import Cause, Delivery, Failure

log = logging.getLogger(__name__)

#: How often due webhooks are looked for, and how often a worker that does not send looks whether it should.
PERIOD_S, _SELDOM_S = 1.0, 5.0
#: Webhooks on their way at once, and of one origin.
_THREADS, _OF_ONE_ORIGIN = 16, 2
#: A taken webhook is due again after so many times the longest wait for a receiver.
_LEASES = 3
#: How long a stop waits for what is on its way.
_STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class Retries:
    """When a webhook is sent again, and how often."""

    attempts: int
    first_s: float

    #: Pauses grow by this factor, up to this many seconds, each a quarter shorter or longer by chance.
    FACTOR = 4
    LONGEST_S = 6 * 3600.0

    def pause_s(self, attempt: int, asked_s: float | None) -> float | None:
        """Seconds after a failed attempt, at least as long as the receiver asked for; None where it was the last."""
        if attempt >= self.attempts:
            return None
        pause: float = min(self.first_s * self.FACTOR ** (attempt - 1), self.LONGEST_S) * random.uniform(0.75, 1.25)
        return max(pause, min(asked_s or 0.0, self.LONGEST_S))


class WebhookSender:
    """A duty, at every worker; a turn in the ledger makes one of them act."""

    def __init__(
        self, settings: WorkerSettings, ledger: Ledger, holder: str, notices: Notices, deliver: Delivery | None = None
    ) -> None:
        """Nothing is sent yet. `deliver`: instead of what the settings say."""
        self._deliver = deliver or Delivery(settings)
        self._private = settings.webhook_private_networks or ""
        self._retries = Retries(settings.webhook_attempts, settings.webhook_retry_s)
        self._lease_s = _LEASES * settings.webhook_timeout_s
        #: What is not sent when this process ends is lost with it.
        self._is_last = settings.embedded_path is not None
        self._ledger = ledger
        self._holder = holder
        self._notices = notices
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._threads = 0
        self._rests_until = 0.0
        #: By origin, those that are on their way.
        self._busy: Counter[str] = Counter()
        #: Attempts that came to nothing count by their cause: those after which there is another, and the last ones.
        self.delivered = Counts("delivered")
        self.retried, self.given_up = Counts(*Cause), Counts(*Cause)

    def __call__(self) -> None:
        """One look, if it is this worker's turn: as many threads as there is work for begin."""
        if time.monotonic() < self._rests_until:
            return
        if self._deliver.signs and self._ledger.take_turn("webhooks", self._holder, lease_s=_SELDOM_S):
            self._begin()
        else:
            self._rests_until = time.monotonic() + _SELDOM_S
            self._tell_of_no_secret()

    def _tell_of_no_secret(self) -> None:
        waiting = 0 if self._deliver.signs else self._ledger.webhooks.count()
        if waiting and not self._somebody_signs():
            self._notices.put(
                "webhooks",
                Waits.WEBHOOKS,
                f"{waiting} webhooks wait for a worker that can sign them: set GRISTMILL_WEBHOOK_SECRET, which `gristmill "
                "webhooks secret` makes",
            )
        else:
            self._notices.drop("webhooks")

    def _somebody_signs(self) -> bool:
        told = [status.get("webhooks") for status in self._ledger.workers().values()]
        return any(isinstance(each, dict) and each.get("signs") for each in told)

    def _begin(self) -> None:
        while self._threads < _THREADS and (webhook := self._take()):
            with self._lock:
                self._threads += 1
            threading.Thread(target=self._run, args=(webhook,), name="gristmill-webhook", daemon=True).start()

    def _take(self) -> DueWebhook | None:
        with self._lock:
            if self._stop.is_set():
                return None
            full = [origin for origin, count in self._busy.items() if count >= _OF_ONE_ORIGIN]
            if webhook := self._ledger.webhooks.take(self._lease_s, full):
                self._busy[webhook.origin] += 1
            return webhook

    def _run(self, webhook: DueWebhook | None) -> None:
        """Send one after the other, until none is due."""
        try:
            while webhook is not None:
                try:
                    with concerning(job=webhook.job.job_id, collection=webhook.job.collection):
                        self._send(webhook)
                finally:
                    self._done(webhook.origin)
                webhook = self._take()
        except GristmillError as error:
            log.warning("webhooks: %s", error)
        except Exception:
            log.exception("a webhook could not be sent; it is due again")
        finally:
            with self._idle:
                self._threads -= 1
                self._idle.notify_all()

    def _done(self, origin: str) -> None:
        with self._lock:
            self._busy[origin] -= 1
            self._busy = +self._busy

    def _send(self, webhook: DueWebhook) -> None:
        failure = self._deliver(webhook)
        if failure is None:
            self.delivered.add("delivered", self._ledger.webhooks.delivered(webhook))
            log.info("webhook %s: delivered to %s, attempt %d", webhook.id, webhook.origin, webhook.attempt)
        elif failure.final or (pause := self._retries.pause_s(webhook.attempt, failure.retry_after_s)) is None:
            self._give_up(webhook, failure)
        else:
            self.retried.add(failure.cause, self._ledger.webhooks.postpone(webhook, failure.reason, pause))
            log.info("webhook %s to %s: %s; again in %.0f s", webhook.id, webhook.origin, failure.reason, pause)

    def _give_up(self, webhook: DueWebhook, failure: Failure) -> None:
        self.given_up.add(failure.cause, self._ledger.webhooks.give_up(webhook, failure.reason))
        log.error(
            "webhook %s to %s: given up after attempt %d: %s; `gristmill webhooks resend %s` tries again",
            *(webhook.id, webhook.origin, webhook.attempt, failure.reason, webhook.id),
        )

    def status(self) -> dict[str, object]:
        """For heartbeats, `gristmill doctor` and whoever enqueues: whether and where to it sends, and what it has sent."""
        counts = {"delivered": self.delivered, "retried": self.retried, "failed": self.given_up}
        sums = {name: int(sum(each.all().values())) for name, each in counts.items()}
        return {"signs": self._deliver.signs, "private": self._private, **sums}

    def close(self) -> None:
        """Stop soon. What is not settled by then is due again elsewhere; in embedded mode what is due is sent first."""
        until = time.monotonic() + (self._lease_s / _LEASES if self._is_last else _STOP_S)
        if self._is_last and self._deliver.signs:
            self._begin()
        with self._idle:
            if not self._is_last:
                self._stop.set()
            self._idle.wait_for(lambda: self._threads == 0, until - time.monotonic())
            self._stop.set()
        if self._is_last and (left := self._ledger.webhooks.count()):
            log.warning("%d webhooks end with this process, undelivered", left)
