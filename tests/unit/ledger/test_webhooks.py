"""Webhooks in both ledgers: queued by the end of their job, taken in turn, sent again after a lease, bounded."""

from __future__ import annotations

import pytest

from gristmill.ledger import Keeping, Ledger
from gristmill.ledger.webhooks.base import DueWebhook
from gristmill_schemas import JobFinished, JobState, WebhookState
from unit.ledger.parcels import LONG_S, ROOMY, MakeLedger, parcel_of, verdict_of

URL = "https://hooks.example.com/told?token=secret"


def finished(ledger: Ledger, url: str = URL, dead: int = 0, tenant: str | None = None) -> str:
    """The id of a job of two documents that is done."""
    ticket = ledger.open_job("c", tenant=tenant, notify=url)
    parcel = parcel_of(ticket, ticket.job_id)
    ledger.accept(parcel, 0, ROOMY)
    ledger.close_job(ticket.job_id, rejected=1)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    assert ledger.finish(claim, verdict_of(parcel, dead=dead))
    return ticket.job_id


def taken(ledger: Ledger, *busy: str, lease_s: float = LONG_S) -> DueWebhook:
    webhook = ledger.webhooks.take(lease_s, busy)
    assert webhook is not None
    return webhook


def state_of(ledger: Ledger, job_id: str) -> WebhookState | None:
    report = ledger.report(job_id)
    assert report is not None
    return report.webhook


def test_the_end_of_a_job_queues_its_webhook_with_the_job_as_it_ended(ledger: Ledger) -> None:
    job_id = finished(ledger, dead=1)
    webhook = taken(ledger)
    assert (webhook.url, webhook.attempt, webhook.origin) == (URL, 1, "https://hooks.example.com")
    job = webhook.job
    assert (job.job_id, job.state, job.stored, job.dead, job.rejected) == (job_id, JobState.DONE, 1, 1, 1)
    assert webhook.id.startswith(job_id)
    assert state_of(ledger, job_id) is WebhookState.WAITING


def test_a_job_that_nobody_is_to_be_told_of_queues_none(ledger: Ledger) -> None:
    ticket = ledger.open_job("c")
    ledger.close_job(ticket.job_id)
    assert ledger.webhooks.take(LONG_S) is None
    assert state_of(ledger, ticket.job_id) is None


def test_a_job_is_told_of_once_however_often_it_is_closed(ledger: Ledger) -> None:
    ticket = ledger.open_job("c", notify=URL)
    for _ in range(3):
        ledger.close_job(ticket.job_id)
    assert ledger.webhooks.count() == 1


def test_a_job_whose_producer_fell_silent_says_so(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(Keeping(producer_lease_s=0))
    ticket = ledger.open_job("c", notify=URL)
    ledger.forget_expired()
    assert taken(ledger).job.abandoned
    # It was only slow: the job opens again, ends again, and that is told under an id of its own.
    parcel = parcel_of(ticket)
    ledger.accept(parcel, 0, ROOMY)
    ledger.close_job(ticket.job_id)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.finish(claim, verdict_of(parcel))
    again = taken(ledger)
    assert (again.job.abandoned, again.job.stored) == (False, 2)
    assert len({each.id for each in ledger.webhooks.list(9)}) == 2


def test_what_is_taken_is_due_again_after_its_lease_under_the_same_id(ledger: Ledger) -> None:
    finished(ledger)
    first = taken(ledger, lease_s=0)
    again = taken(ledger)
    assert (again.id, again.attempt) == (first.id, 2)
    assert ledger.webhooks.take(LONG_S) is None


def test_only_the_newest_attempt_settles_a_webhook(ledger: Ledger) -> None:
    job_id = finished(ledger)
    first, second = taken(ledger, lease_s=0), taken(ledger)
    assert not ledger.webhooks.give_up(first, "late")
    assert not ledger.webhooks.delivered(first)
    assert ledger.webhooks.delivered(second)
    assert state_of(ledger, job_id) is WebhookState.DELIVERED
    assert ledger.webhooks.list(9) == []


def test_a_postponed_one_is_not_due_before_its_delay_is_over(ledger: Ledger) -> None:
    finished(ledger)
    ledger.webhooks.postpone(taken(ledger), "away", LONG_S)
    assert ledger.webhooks.take(LONG_S) is None
    (kept,) = ledger.webhooks.list(9)
    assert (kept.state, kept.attempts, kept.error) == (WebhookState.WAITING, 1, "away")
    assert kept.next_attempt_at is not None
    assert kept.next_attempt_at > kept.created_at + LONG_S / 2


def test_a_given_up_one_is_kept_until_it_is_resent_with_all_its_attempts(ledger: Ledger) -> None:
    job_id = finished(ledger)
    ledger.webhooks.give_up(taken(ledger), "gone")
    assert ledger.webhooks.take(LONG_S) is None
    (kept,) = ledger.webhooks.list(9, WebhookState.FAILED)
    assert (kept.next_attempt_at, kept.error, state_of(ledger, job_id)) == (None, "gone", WebhookState.FAILED)
    assert ledger.webhooks.resend([kept.id, "absent"]) == 1
    assert state_of(ledger, job_id) is WebhookState.WAITING
    assert taken(ledger).attempt == 1


def test_origins_take_turns(ledger: Ledger) -> None:
    for _ in range(3):
        finished(ledger, "https://a.example/1")
    finished(ledger, "https://b.example/2")
    # However much another one has waiting, it comes second at the latest.
    assert "https://b.example" in {taken(ledger).origin for _ in range(2)}


def test_a_busy_origin_is_passed_over(ledger: Ledger) -> None:
    finished(ledger, "https://a.example/1")
    finished(ledger, "https://b.example:8443/2")
    assert taken(ledger, "https://a.example").origin == "https://b.example:8443"
    assert ledger.webhooks.take(LONG_S, ["https://a.example"]) is None
    assert taken(ledger).origin == "https://a.example"


def test_dropped_ones_are_not_sent(ledger: Ledger) -> None:
    job_id = finished(ledger)
    (kept,) = ledger.webhooks.list(9)
    assert ledger.webhooks.drop([kept.id, kept.id]) == 1
    assert ledger.webhooks.take(LONG_S) is None
    assert state_of(ledger, job_id) is WebhookState.FAILED


def test_they_are_listed_by_job_without_the_secret_part_of_their_url(ledger: Ledger) -> None:
    finished(ledger)
    job_id = finished(ledger)
    (kept,) = ledger.webhooks.list(9, job_id=job_id)
    assert (kept.job_id, kept.origin) == (job_id, "https://hooks.example.com")
    assert "secret" not in repr(ledger.webhooks.list(9))


def test_a_webhook_outlives_its_job(make_ledger: MakeLedger) -> None:
    ledger = make_ledger(Keeping(job_ttl_s=0))
    job_id = finished(ledger)
    ledger.forget_expired()
    assert ledger.report(job_id) is None
    webhook = taken(ledger)
    assert webhook.job.job_id == job_id
    assert ledger.webhooks.delivered(webhook)


@pytest.mark.parametrize("keeping", [Keeping(webhooks_kept=1), Keeping(webhook_ttl_s=0)])
def test_they_are_bounded_in_number_and_time(make_ledger: MakeLedger, keeping: Keeping) -> None:
    ledger = make_ledger(keeping)
    jobs = [finished(ledger) for _ in range(3)]
    ledger.forget_expired()
    assert ledger.webhooks.count() <= keeping.webhooks_kept
    assert state_of(ledger, jobs[0]) is WebhookState.FAILED


def test_their_memory_counts_against_the_mark(ledger: Ledger) -> None:
    before = ledger.load().bytes
    ticket = ledger.open_job("c")
    plain = ledger.load().bytes - before
    ledger.close_job(ticket.job_id)
    finished(ledger)
    assert ledger.load().bytes - before > 2 * plain


def test_the_body_has_counters_and_state_and_nothing_that_is_not_for_the_receiver(ledger: Ledger) -> None:
    job_id = finished(ledger, dead=1, tenant="acme")
    webhook = taken(ledger)
    body = JobFinished(timestamp=webhook.finished_at, data=webhook.job).body()
    told = JobFinished.read_json(body)
    assert (told.type, told.data.job_id, told.data.state, told.data.dead) == ("job.finished", job_id, JobState.DONE, 1)
    assert {"reasons", "webhook", "notify"}.isdisjoint(body.split('"'))
    assert "token" not in body.replace("tokens", "")
