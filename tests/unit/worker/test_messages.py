"""What one message is good for: parcels of its model, one after the other, and no worker keeps it for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from gristmill.ingest.broker import MESSAGE_S, PARCELS_PER_MESSAGE, create_celery, messages_for, queue_name
from gristmill.ledger import Claim, HighWater, MemoryLedger
from gristmill.settings import ClientSettings
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store
from gristmill_schemas import CollectionSpec, Document, JobReport, Parcel
from gristmill_schemas.errors import BrokerRefused, BrokerUnavailable, ShuttingDown
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline import engine as engine_module
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.pipeline.handler import Handled
from gristmill_worker.process.host import Host
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting import in_hand, share
from waiting import eventually

ROOMY = HighWater(documents=10_000, bytes=100_000_000)


class Interrupted(HashEncoder):
    """Does something else in the middle of its next batch."""

    meanwhile: Callable[[], None] | None = None

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().launch(batch)


class Mill:
    """One engine over a ledger in memory, and no threads: whoever holds it takes each message by hand."""

    def __init__(self, closing: ExitStack) -> None:
        self.ledger = MemoryLedger()
        store = open_local_store(":memory:")
        closing.callback(store.close)
        collections = Collections(store, local=True)
        #: How many messages were sent, each time.
        self.published: list[int] = []
        self.publish: Callable[[int], None] = self.published.append
        self.host = Host(WorkerSettings(), self.ledger, store, collections, lambda _, count: self.publish(count))
        closing.callback(self.host.close)
        self.encoder = Interrupted(4)
        self.engine: Engine = self.host.add(self.encoder)
        collections.create(CollectionSpec(name="c", space=self.engine.encoder.info.space()))

    def be_two(self) -> None:
        """Another worker serves the same model."""
        self.ledger.heartbeat("another", {"engines": [{"model_digest": self.engine.digest}]}, ttl_s=3600)
        self.host.start()
        eventually(lambda: self.host.workers(self.engine.digest) == 2)

    @property
    def report(self) -> JobReport:
        """Of the last job."""
        return self.ledger.jobs(1)[0]

    def accept(self, parcels: int, documents: int = 1) -> None:
        ticket = self.ledger.open_job("c")
        for number in range(parcels):
            parcel = Parcel(
                id=f"{ticket.job_id}.{number}",
                job_id=ticket.job_id,
                collection="c",
                model_digest=self.engine.digest,
                documents=tuple(Document(id=f"{number}.{n}", text=f"text {number} {n}") for n in range(documents)),
                version=ticket.version,
                enqueued_at=ticket.opened_at,
            )
            self.ledger.accept(parcel, number, ROOMY)

    @property
    def waiting(self) -> int:
        return self.ledger.load().parcels


@pytest.fixture
def mill(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mill]:
    monkeypatch.setattr(engine_module, "MESSAGE_S", 3600.0)
    monkeypatch.setattr(share, "_REST_S", 3600.0)
    with ExitStack() as closing:
        yield Mill(closing)


def test_a_message_is_good_for_sixteen_parcels(mill: Mill) -> None:
    mill.accept(PARCELS_PER_MESSAGE + 3)
    assert mill.engine.process() is Handled.DONE
    assert (PARCELS_PER_MESSAGE, mill.waiting) == (16, 3)
    assert mill.engine.process() is Handled.NONE
    assert mill.waiting == 0


def test_a_message_whose_parcels_take_long_goes_back_to_whoever_comes_next(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MESSAGE_S > 0
    monkeypatch.setattr(engine_module, "MESSAGE_S", 0.0)
    mill.accept(2)
    assert mill.engine.process() is Handled.LATER
    assert mill.waiting == 1
    assert mill.engine.process() is Handled.LATER
    assert mill.engine.process() is Handled.NONE


def test_who_is_refused_a_parcel_pauses_and_says_why(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another program has written over our keys: a message that goes back at once comes again at once."""

    def refused(*_: object) -> None:
        raise BrokerRefused("Redis refused: WRONGTYPE")

    mill.accept(1)
    with monkeypatch.context() as patched:
        patched.setattr(mill.ledger, "claim", refused)
        assert mill.engine.process() is Handled.LATER
    assert not mill.host.accepts(queue_name(mill.engine.digest))
    assert "WRONGTYPE" in next(iter(mill.host.notices.all()))
    eventually(lambda: mill.host.accepts(queue_name(mill.engine.digest)))
    assert mill.engine.process() is Handled.NONE
    assert (mill.host.notices.all(), mill.waiting) == ([], 0)


def test_a_short_job_has_a_message_for_each_parcel_and_a_long_one_for_every_sixteen() -> None:
    assert [messages_for(each) for each in (0, 1, 16, 17, 32, 33)] == [0, 1, 16, 17, 17, 18]
    assert messages_for(16 + 160) == 26


def test_a_worker_that_has_its_share_of_a_jobs_last_parcels_leaves_the_rest_to_others(mill: Mill) -> None:
    mill.be_two()
    queue = queue_name(mill.engine.digest)
    seen: list[object] = []

    def meanwhile() -> None:
        seen.extend((mill.host.accepts(queue), mill.engine.process(), mill.host.accepts(queue), mill.waiting))

    mill.encoder.meanwhile = meanwhile
    mill.accept(2)
    assert mill.engine.process() is Handled.NONE
    assert seen == [True, Handled.LATER, False, 2], "its second message goes back, and no other is taken"
    assert mill.host.accepts(queue), "it has nothing in hand any more"
    assert mill.waiting == 0, "nobody else has come"


@pytest.mark.parametrize(
    ("tokens_per_s", "threads", "more"),
    [(None, 3, True), (None, 4, False), (1.0, 0, True), (1.0, 1, False), (1e6, 12, True)],
    ids=["nothing measured yet, a few", "nothing measured yet, enough", "slow, none", "slow, one", "fast"],
)
def test_a_slow_device_has_no_more_than_seconds_of_work_in_hand(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, tokens_per_s: float | None, threads: int, more: bool
) -> None:
    mill.accept(2)
    mill.engine.process()
    monkeypatch.setattr(mill.engine.batcher, "tokens_done", 10**9)  # by queries, which are nobody's parcels
    monkeypatch.setattr(Batcher, "tokens_per_s", tokens_per_s)
    monkeypatch.setattr(mill.engine, "_busy", threads)
    assert mill.host.accepts(queue_name(mill.engine.digest)) is more


def test_a_thread_of_a_slow_device_takes_the_next_parcel_only_where_there_is_room(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batcher, "tokens_per_s", 1.0)
    mill.accept(3)
    monkeypatch.setattr(mill.engine, "_busy", 1)  # another thread, about to have one as long as the last
    assert mill.engine.process() is Handled.LATER
    assert mill.waiting == 2
    monkeypatch.setattr(mill.engine, "_busy", 0)
    assert mill.engine.process() is Handled.NONE


@pytest.mark.parametrize(("tokens_per_s", "parts"), [(140.0, 3), (1e6, 1)], ids=["half a second", "milliseconds"])
def test_of_a_jobs_last_long_parcel_every_worker_may_have_a_part(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, tokens_per_s: float, parts: int
) -> None:
    mill.be_two()
    others: list[Claim | None] = []

    def meanwhile() -> None:
        others.append(mill.ledger.claim(mill.engine.digest, lease_s=3600))
        if others[0] is not None:
            mill.ledger.release(others[0], refund=True)

    mill.encoder.meanwhile = meanwhile
    monkeypatch.setattr(Batcher, "tokens_per_s", tokens_per_s)
    mill.accept(1, documents=40)
    monkeypatch.setattr(in_hand, "_JUST_COME_S", 0.0)
    assert mill.engine.process() is Handled.NONE
    assert mill.published[:1] == [parts - 1] * (parts > 1), "each part wants a message, and one is this one's"
    assert [other and len(other.parcel) for other in others] == [40 // parts if parts > 1 else None]
    assert (mill.report.stored, mill.waiting) == (40, 0)


def test_a_message_that_has_seen_enough_parcels_when_it_cuts_one_comes_again(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill.be_two()
    monkeypatch.setattr(Batcher, "tokens_per_s", 140.0)
    monkeypatch.setattr(in_hand, "_JUST_COME_S", 0.0)
    monkeypatch.setattr(engine_module, "PARCELS_PER_MESSAGE", 1)
    mill.accept(1, documents=40)
    assert mill.engine.process() is Handled.LATER
    assert (mill.published, mill.waiting) == ([2], 3)


def test_a_worker_that_is_told_to_end_while_it_cuts_a_parcel_gives_it_back(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object) -> None:
        raise ShuttingDown("Redis is away, and this process is told to end")

    mill.be_two()
    monkeypatch.setattr(Batcher, "tokens_per_s", 140.0)
    monkeypatch.setattr(in_hand, "_JUST_COME_S", 0.0)
    mill.accept(1, documents=40)
    with monkeypatch.context() as patched:
        patched.setattr(mill.ledger, "split", ends)
        assert mill.engine.process() is Handled.LATER
    claim = mill.ledger.claim(mill.engine.digest, lease_s=3600)
    assert claim is not None
    assert (len(claim.parcel), claim.attempts) == (40, 1)


def test_parts_that_nobody_can_be_told_of_are_worked_on_all_the_same(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise BrokerUnavailable("no message can be sent")

    mill.be_two()
    monkeypatch.setattr(Batcher, "tokens_per_s", 140.0)
    monkeypatch.setattr(in_hand, "_JUST_COME_S", 0.0)
    mill.publish = away
    mill.accept(1, documents=40)
    assert mill.engine.process() is Handled.NONE
    assert mill.report.stored == 40


def test_a_parcel_that_was_tried_before_and_deletions_are_not_cut(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    mill.be_two()
    monkeypatch.setattr(Batcher, "tokens_per_s", 1.0)
    monkeypatch.setattr(in_hand, "_JUST_COME_S", 0.0)
    mill.accept(1, documents=40)
    claim = mill.ledger.claim(mill.engine.digest, lease_s=3600)
    assert claim is not None
    mill.ledger.begin(claim)
    mill.ledger.release(claim, refund=False)
    mill.engine.process()
    assert (mill.published, mill.report.stored) == ([], 40)


def test_threads_share_what_celery_keeps_results_with_which_costs_a_look_through_all_installed_packages() -> None:
    app = create_celery(ClientSettings())
    with ThreadPoolExecutor(1) as another:
        assert another.submit(lambda: app.backend).result() is app.backend
