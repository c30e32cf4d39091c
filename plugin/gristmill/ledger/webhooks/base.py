"""Webhooks: queued with the end of their job, sent at least once, and forgotten when the receiver has said that it has it.

    job done ──► waiting ──take──► on its way ──delivered──► gone
                   ▲                   │ ├──postpone──► waiting, until its delay is over
                   └──(lease runs out)─┘ └──give_up───► failed ──resend──► waiting

Laws, for every implementation:

- A webhook is queued by the very change that makes its job done, so no kill comes between; it brings the job as it ended.
- Whoever takes one has it for a lease. One that is not settled by then is due again: sent at least once, under the same id.
- Origins (scheme, host and port) take turns, and one that has enough on its way is passed over.
- Only the newest attempt settles a webhook.
- They are bounded in number and time, and their memory counts against the high-water mark.
"""

from __future__ import annotations

import builtins
import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from gristmill_schemas import JobReport, Webhook, WebhookState


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """One to be sent now."""

    id: str
    url: str
    #: Which attempt this is, from 1.
    attempt: int
    #: As it ended.
    job: JobReport
    #: When that was: seconds since 1970, by the ledger's clock.
    finished_at: float

    @property
    def origin(self) -> str:
        """Whose it is."""
        return origin_of(self.url)

    @property
    def host_is_address(self) -> bool:
        """Whether the URL names an address and no name, so that it will never mean another."""
        try:
            ipaddress.ip_address(urlsplit(self.url).hostname or "")
        except ValueError:
            return False
        return True


def origin_of(url: str) -> str:
    """Scheme, host and port: all of a URL that may be shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Webhooks(Protocol):
    """All that senders and operators need of them."""

    def take(self, lease_s: float, busy: Collection[str] = ()) -> DueWebhook | None:
        """The next one that is due, of an origin that is not among the busy ones; None where there is none."""

    def delivered(self, webhook: DueWebhook) -> bool:
        """The receiver has it. False, here and below: another attempt has been begun since, and nothing changes."""

    def postpone(self, webhook: DueWebhook, error: str, delay_s: float) -> bool:
        """It is due again after a delay."""

    def give_up(self, webhook: DueWebhook, error: str) -> bool:
        """It is not sent again unless somebody says so."""

    def list(self, limit: int, state: WebhookState | None = None, job_id: str | None = None) -> builtins.list[Webhook]:
        """Those that are not delivered, newest first."""

    def resend(self, ids: Iterable[str]) -> int:
        """Send them now, with all their attempts before them; returns how many of them there are."""

    def drop(self, ids: Iterable[str]) -> int:
        """Forget them; returns how many there were."""

    def count(self) -> int:
        """How many are not delivered."""
