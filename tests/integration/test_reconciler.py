"""The reconciler sends as many messages as are missing, and no more, on a real Redis with real Celery messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gristmill.ingest.broker import CeleryDispatcher, messages_for
from gristmill.ledger import Claim, HighWater, RedisLedger
from gristmill.ledger.connection import connect
from gristmill.settings import ClientSettings, load_settings
from gristmill_schemas import Document, Parcel
from gristmill_worker.process import reconciler
from gristmill_worker.process.broker_queue import BrokerQueue
from gristmill_worker.process.reconciler import Reconciler
from unit.ledger.parcels import verdict_of

pytestmark = pytest.mark.server


class Yard:
    """A ledger and a queue, and hands that take messages and parcels."""

    def __init__(self, redis_url: str, closing: ExitStack) -> None:
        self.settings = load_settings(ClientSettings, redis_url=redis_url, key_prefix="yard")
        client = connect(self.settings)
        closing.callback(client.close)
        self.ledger = RedisLedger(self.settings, client)
        self.dispatcher = CeleryDispatcher(self.settings)
        self.queue = BrokerQueue(self.settings, client, "m")
        self.reconciler = self.rival("me")
        closing.callback(self.dispatcher.close)

    def rival(self, holder: str) -> Reconciler:
        return Reconciler(self.ledger, self.dispatcher, self.queue, "m", holder, period_s=3600)

    def accept(self, count: int, model: str = "m") -> None:
        ticket = self.ledger.open_job("c")
        for number in range(count):
            parcel = Parcel(
                id=f"{ticket.job_id}.{number}",
                job_id=ticket.job_id,
                collection="c",
                model_digest=model,
                documents=(Document(id=str(number), text="t"),),
                version=1,
                enqueued_at=1,
            )
            self.ledger.accept(parcel, number, HighWater(10**6, 10**9))

    def claim(self, lease_s: float = 3600.0) -> Claim:
        claim = self.ledger.claim("m", lease_s)
        assert claim is not None
        return claim

    def take(self, count: int = 1) -> None:
        """Messages vanish from the head, as when a worker is killed between taking and claiming."""
        self.queue._redis.rpop(self.queue._key, count)

    def look(self, times: int = 2) -> int:
        """Let the reconciler look so often; returns how many messages wait then."""
        for _ in range(times):
            self.reconciler()
        return self.queue.length()


@pytest.fixture
def yard(redis_url: str) -> Iterator[Yard]:
    with ExitStack() as closing:
        yield Yard(redis_url, closing)


def test_a_backlog_is_left_alone(yard: Yard) -> None:
    yard.accept(20)
    yard.dispatcher.publish("m", 20)
    assert yard.look(3) == 20


def test_messages_that_vanished_are_replaced_once(yard: Yard) -> None:
    yard.accept(5)
    yard.dispatcher.publish("m", 5)
    yard.take(2)
    assert yard.look(4) == 5


def test_parcels_that_never_got_a_message_get_one(yard: Yard) -> None:
    yard.accept(3)
    assert yard.look() == 3


def test_a_message_on_its_way_is_not_missed(yard: Yard) -> None:
    """Taken and not yet claimed at one look, claimed at the next; meanwhile another one is on its way."""
    yard.accept(4)
    yard.dispatcher.publish("m", 4)
    yard.take()
    assert yard.look(1) == 3
    yard.claim()
    assert yard.look(1) == 3


def test_no_more_than_the_smaller_of_two_deficits_is_sent(yard: Yard) -> None:
    yard.accept(5)
    yard.look(1)
    yard.claim()
    yard.claim()
    assert yard.look(1) == 3
    yard.accept(2)
    assert yard.look(1) == 3
    assert yard.look(1) == 5


def test_a_parcel_in_work_is_left_alone_until_its_holder_falls_silent(yard: Yard) -> None:
    yard.accept(1)
    claim = yard.claim()
    assert yard.look() == 0
    yard.ledger.renew([claim], 0.0)
    assert yard.look(4) == 1


def test_what_a_killed_worker_held_gets_a_message_beside_a_backlog(yard: Yard) -> None:
    yard.accept(50)
    yard.dispatcher.publish("m", messages_for(50))
    yard.take()
    yard.claim(lease_s=0.0)
    assert yard.look(4) == messages_for(50)


def test_what_is_delayed_or_rests_is_missed_when_it_is_due_and_not_before(yard: Yard) -> None:
    yard.accept(2)
    yard.ledger.release(yard.claim(), refund=True, delay_s=3600)
    assert yard.look() == 1
    yard.ledger.rest("m", "c", 3600)
    yard.take()
    assert yard.look(4) == 0


def test_the_backlog_of_a_model_without_workers_is_nobody_elses(yard: Yard) -> None:
    yard.accept(10, model="retired")
    yard.accept(1)
    assert yard.look(4) == 1


def test_messages_beyond_the_backlog_are_worked_off_and_nothing_is_added(yard: Yard) -> None:
    yard.accept(2)
    yard.dispatcher.publish("m", 5)
    claim = yard.claim()
    yard.ledger.finish(claim, verdict_of(claim.parcel))
    assert yard.look(4) == 5


def test_many_are_sent_a_thousand_or_so_at_a_time(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "_MOST_AT_ONCE", 3)
    yard.accept(7)
    assert [yard.look(2), yard.look(1), yard.look(1), yard.look(1)] == [3, 6, 7, 7]


def test_one_of_many_reconcilers_acts(yard: Yard) -> None:
    yard.look()
    yard.accept(1)
    rival = yard.rival("another")
    for _ in range(3):
        rival()
    assert yard.queue.length() == 0
    assert yard.look() == 1
