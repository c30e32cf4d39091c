"""The sender: retries, turns, leases; one slow receiver holds up no other."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gristmill.ledger import Ledger, MemoryLedger
from gristmill.settings import load_settings
from gristmill_schemas import WebhookState
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting.notices import Notices
from gristmill_worker.webhooks.sender import Retries, WebhookSender
from unit.ledger.parcels import LONG_S, redis_ledger
from waiting import eventually
from webhook_receiver import LOOPBACK, SECRET, receiving


@contextmanager
def sending(ledger: Ledger, holder: str = "w", **given: Any) -> Iterator[WebhookSender]:
    """A sender whose duty is done by whoever calls it; retries at once."""
    chosen = {
        "webhook_secret": SECRET,
        "webhook_private_networks": LOOPBACK,
        "webhook_retry_s": 1e-6,
        "webhook_attempts": 3,
        "webhook_timeout_s": 60,
        **given,
    }
    sender = WebhookSender(load_settings(WorkerSettings, **chosen), ledger, holder, Notices())
    try:
        yield sender
    finally:
        sender.close()


def done(ledger: Ledger, url: str) -> str:
    """The id of a job that is done, without documents."""
    ticket = ledger.open_job("c", notify=url)
    ledger.close_job(ticket.job_id)
    return ticket.job_id


def state_of(ledger: Ledger, job_id: str) -> WebhookState | None:
    report = ledger.report(job_id)
    return None if report is None else report.webhook


def sent(sender: WebhookSender, over: Callable[[], bool]) -> None:
    """Its duty is done until there is nothing more to do."""

    def look() -> bool:
        sender()
        return over()

    eventually(look, within_s=60)


@pytest.fixture(autouse=True)
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has the turn keeps it, however slow this machine is."""
    monkeypatch.setattr("gristmill_worker.webhooks.sender._SELDOM_S", 3600.0)


@pytest.fixture
def ledger() -> Ledger:
    return MemoryLedger()


def test_a_webhook_is_sent_again_until_the_receiver_has_it(ledger: Ledger) -> None:
    with receiving(answers=[500, 503]) as receiver, sending(ledger) as sender:
        job_id = done(ledger, receiver.url)
        sent(sender, lambda: state_of(ledger, job_id) is WebhookState.DELIVERED)
        assert len(set(receiver.ids())) == 1
        assert len(receiver.told) == 3
        assert len({headers["webhook-signature"] for _, headers in receiver.told}) >= 1
    assert sender.status() == {"signs": True, "private": LOOPBACK, "delivered": 1, "retried": 2, "failed": 0}


def test_after_its_last_attempt_it_is_seen_as_failed_and_can_be_resent(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(answers=[500] * 3) as receiver, sending(ledger) as sender:
        job_id = done(ledger, receiver.url + "?token=Z9-secret")
        sent(sender, lambda: state_of(ledger, job_id) is WebhookState.FAILED)
        (kept,) = ledger.webhooks.list(9, WebhookState.FAILED)
        assert (kept.attempts, kept.error) == (3, "the receiver answered 500")
        eventually(lambda: f"gristmill webhooks resend {kept.id}" in caplog.text)
        assert "Z9-secret" not in caplog.text
        ledger.webhooks.resend([kept.id])
        sent(sender, lambda: state_of(ledger, job_id) is WebhookState.DELIVERED)
        assert len(receiver.told) == 4


def test_pauses_grow_fourfold_up_to_six_hours_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    retries = Retries(attempts=10, first_s=5)
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    pauses = [retries.pause_s(attempt, None) for attempt in range(1, 11)]
    assert pauses == [5, 20, 80, 320, 1280, 5120, 20480, 21600, 21600, None]
    # As long as the receiver asks for, within bounds; never shorter than its own.
    assert retries.pause_s(1, 100.0) == 100
    assert retries.pause_s(3, 1.0) == 80
    assert retries.pause_s(1, 1e9) == 21600


def test_pauses_differ_by_chance() -> None:
    retries = Retries(attempts=10, first_s=100)
    pauses = {retries.pause_s(1, None) for _ in range(50)}
    assert len(pauses) > 40
    assert all(pause is not None and 75 <= pause <= 125 for pause in pauses)


def test_a_slow_receiver_holds_up_no_other(ledger: Ledger) -> None:
    free = threading.Event()

    def slow() -> tuple[int, dict[str, str]]:
        free.wait(60)
        return 204, {}

    with (
        receiving(answers=[slow] * 40) as sluggish,
        receiving() as prompt,
        sending(ledger, webhook_attempts=20) as sender,
    ):
        waiting = [done(ledger, sluggish.url) for _ in range(40)]
        told = [done(ledger, prompt.url) for _ in range(20)]
        sent(sender, lambda: all(state_of(ledger, job_id) is WebhookState.DELIVERED for job_id in told))
        assert len(sluggish.told) <= 2
        free.set()
        sent(sender, lambda: all(state_of(ledger, job_id) is WebhookState.DELIVERED for job_id in waiting))


def test_of_two_workers_one_sends(ledger: Ledger) -> None:
    with receiving() as receiver, sending(ledger, "one") as one, sending(ledger, "two") as two:
        one()  # has the turn from here on
        jobs = [done(ledger, receiver.url) for _ in range(10)]
        for _ in range(3):
            two()
        assert receiver.told == []
        sent(one, lambda: all(state_of(ledger, job_id) is WebhookState.DELIVERED for job_id in jobs))
        assert Counter(receiver.ids()).most_common(1)[0][1] == 1


def test_what_a_killed_worker_had_taken_is_sent_by_another_under_the_same_id(ledger: Ledger) -> None:
    with receiving() as receiver:
        job_id = done(ledger, receiver.url)
        killed = ledger.webhooks.take(lease_s=0)
        assert killed is not None
        with sending(ledger, "other") as sender:
            sent(sender, lambda: state_of(ledger, job_id) is WebhookState.DELIVERED)
        assert receiver.ids() == [killed.id]


@pytest.mark.slow
def test_hundreds_of_jobs_are_told_of_by_one_of_two_workers(redis_url: str) -> None:
    with redis_ledger(redis_url) as ledger, receiving() as receiver:
        with sending(ledger, "one", webhook_attempts=20) as one, sending(ledger, "two", webhook_attempts=20) as two:
            jobs = [done(ledger, receiver.url) for _ in range(300)]
            for sender in (one, two):
                sender()
            sent(one, lambda: ledger.webhooks.count() == 0)
            assert two.status()["delivered"] == 0
        assert Counter(receiver.ids()).most_common(1)[0][1] == 1
        assert len(receiver.told) == 300
        assert {state_of(ledger, job_id) for job_id in jobs} == {WebhookState.DELIVERED}


def test_an_address_that_is_refused_is_given_up_at_once(ledger: Ledger) -> None:
    with receiving() as receiver, sending(ledger, webhook_private_networks=None) as sender:
        job_id = done(ledger, receiver.url.replace("localhost", "127.0.0.1"))
        sent(sender, lambda: state_of(ledger, job_id) is WebhookState.FAILED)
        assert receiver.told == []
    assert "GRISTMILL_WEBHOOK_PRIVATE_NETWORKS" in ledger.webhooks.list(1)[0].error


def test_without_a_secret_nothing_is_sent_and_the_worker_says_so(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill_worker.webhooks.sender._SELDOM_S", 0)
    with receiving() as receiver:
        settings = load_settings(WorkerSettings, webhook_private_networks=LOOPBACK)
        notices = Notices()
        sender = WebhookSender(settings, ledger, "w", notices)
        job_id = done(ledger, receiver.url)
        sender()
        assert "GRISTMILL_WEBHOOK_SECRET" in notices.all()[0]
        assert (receiver.told, state_of(ledger, job_id)) == ([], WebhookState.WAITING)
        ledger.heartbeat("x", {"webhooks": {"signs": True}}, ttl_s=LONG_S)
        sender()
        assert notices.all() == []
