"""The reconciler publishes what is lost, and only that, on a real Redis with real Celery messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import pytest

from gristmill.ingest.broker import CeleryDispatcher
from gristmill.ledger import Claim, HighWater, RedisLedger, Verdict
from gristmill.settings import ClientSettings, load_settings
from gristmill_schemas import Document, Parcel
from gristmill_worker.process import reconciler
from gristmill_worker.process.broker_queue import BrokerQueue
from gristmill_worker.process.reconciler import Reconciler

pytestmark = pytest.mark.server


class Yard:
    """A ledger and a queue, and hands that steal messages."""

    def __init__(self, redis_url: str, closing: ExitStack) -> None:
        self.settings = load_settings(ClientSettings, redis_url=redis_url, key_prefix="yard")
        self.ledger = RedisLedger(self.settings)
        self.dispatcher = CeleryDispatcher(self.settings)
        self.queue = BrokerQueue(self.settings, "m")
        self.reconciler = self.rival("me")
        for each in (self.queue, self.dispatcher, self.ledger):
            closing.callback(each.close)

    def rival(self, holder: str) -> Reconciler:
        return Reconciler(self.ledger, self.dispatcher, self.queue, "m", holder, period_s=3600)

    def accept(self, count: int, model: str = "m") -> list[str]:
        ticket = self.ledger.open_job("c")
        names = [f"{ticket.job_id}.{number}" for number in range(count)]
        for number, name in enumerate(names):
            parcel = Parcel(
                id=name,
                job_id=ticket.job_id,
                collection="c",
                model_digest=model,
                documents=(Document(id=name, text="t"),),
                version=1,
                enqueued_at=1,
            )
            self.ledger.accept(parcel, number, HighWater(10**6, 10**9))
        return names

    def publish(self, names: list[str]) -> None:
        self.dispatcher.publish("m", names)

    def waiting(self) -> list[str]:
        """Parcel ids in the queue, next one first."""
        return self.queue.head(10_000)

    def take(self, count: int = 1) -> None:
        """Messages vanish from the head, as when a worker is killed between taking and claiming."""
        for _ in range(count):
            self.queue._redis.rpop(self.queue._key)


@pytest.fixture
def yard(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setattr(reconciler, "_GRACE_S", 0.0)
    with ExitStack() as closing:
        yield Yard(redis_url, closing)


def test_a_backlog_is_left_alone(yard: Yard) -> None:
    names = yard.accept(20)
    yard.publish(names)
    for _ in range(3):
        yard.reconciler()
    assert yard.waiting() == names


def test_parcels_whose_messages_vanished_are_published_once(yard: Yard) -> None:
    names = yard.accept(5)
    yard.publish(names)
    yard.take(2)
    for _ in range(3):
        yard.reconciler()
    assert yard.waiting() == [*names[2:], *names[:2]]


def test_parcels_that_never_got_a_message_are_published(yard: Yard) -> None:
    names = yard.accept(3)
    yard.reconciler()
    assert yard.waiting() == names


def test_a_parcel_in_work_is_left_alone_until_its_holder_falls_silent(yard: Yard) -> None:
    (name,) = yard.accept(1)
    claim = yard.ledger.claim(name, 3600)
    assert isinstance(claim, Claim)
    yard.reconciler()
    assert yard.waiting() == []
    yard.ledger.renew([claim], 0.0)
    yard.reconciler()
    yard.reconciler()
    assert yard.waiting() == [name]


def test_what_a_killed_worker_held_is_published_past_a_backlog(yard: Yard) -> None:
    names = yard.accept(50)
    yard.publish(names)
    yard.take()
    assert isinstance(yard.ledger.claim(names[0], 0.0), Claim)
    yard.reconciler()
    assert yard.waiting() == [*names[1:], names[0]]


def test_the_backlog_of_a_model_without_workers_hides_nothing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "_PAGE", 3)
    yard.accept(10, model="retired")
    (lost,) = yard.accept(1)
    yard.accept(10, model="retired")
    yard.reconciler()
    assert yard.waiting() == [lost]


def test_duplicates_of_finished_parcels_at_the_head_hide_nothing(yard: Yard) -> None:
    done, lost, behind = yard.accept(3)
    yard.publish([done, behind])
    yard.ledger.finish(cast("Claim", yard.ledger.claim(done, 3600)), Verdict())
    yard.reconciler()
    assert yard.waiting() == [done, behind, lost]


def test_one_of_many_reconcilers_acts(yard: Yard) -> None:
    yard.reconciler()
    names = yard.accept(1)
    yard.rival("another")()
    assert yard.waiting() == []
    yard.reconciler()
    assert yard.waiting() == names
