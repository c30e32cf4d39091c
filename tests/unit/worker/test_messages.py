"""What one message is good for: parcels of its model, one after the other, and no worker keeps it for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from gristmill.ingest.broker import MESSAGE_S, PARCELS_PER_MESSAGE, create_celery, messages_for, queue_name
from gristmill.ledger import HighWater, MemoryLedger
from gristmill.settings import ClientSettings
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store
from gristmill_schemas import CollectionSpec, Document, Parcel
from gristmill_schemas.errors import BrokerRefused
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline import engine as engine_module
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.pipeline.handler import Handled
from gristmill_worker.process.host import Host
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting import share
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
        self.host = Host(WorkerSettings(), self.ledger, store, collections, lambda model_digest, count: None)
        closing.callback(self.host.close)
        self.encoder = Interrupted(4)
        self.engine: Engine = self.host.add(self.encoder)
        collections.create(CollectionSpec(name="c", space=self.engine.encoder.info.space()))

    def accept(self, parcels: int) -> None:
        ticket = self.ledger.open_job("c")
        for number in range(parcels):
            parcel = Parcel(
                id=f"{ticket.job_id}.{number}",
                job_id=ticket.job_id,
                collection="c",
                model_digest=self.engine.digest,
                documents=(Document(id=str(number), text=f"text {number}"),),
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
    mill.ledger.heartbeat("another", {"engines": [{"model_digest": mill.engine.digest}]}, ttl_s=3600)
    mill.host.start()
    eventually(lambda: mill.host.workers(mill.engine.digest) == 2)
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
    ("tokens_per_s", "in_hand", "more"),
    [(None, 12, True), (1.0, 3, True), (1.0, 4, False), (1e6, 12, True)],
    ids=["nothing measured yet", "slow, a few", "slow, enough", "fast"],
)
def test_a_slow_device_has_no_more_than_seconds_of_work_in_hand(
    mill: Mill, monkeypatch: pytest.MonkeyPatch, tokens_per_s: float | None, in_hand: int, more: bool
) -> None:
    mill.accept(2)
    mill.engine.process()
    monkeypatch.setattr(mill.engine.batcher, "tokens_done", 10**9)  # by queries, which are nobody's parcels
    monkeypatch.setattr(Batcher, "tokens_per_s", tokens_per_s)
    monkeypatch.setattr(mill.engine, "_busy", in_hand)
    assert mill.host.accepts(queue_name(mill.engine.digest)) is more


def test_threads_share_what_celery_keeps_results_with_which_costs_a_look_through_all_installed_packages() -> None:
    app = create_celery(ClientSettings())
    with ThreadPoolExecutor(1) as another:
        assert another.submit(lambda: app.backend).result() is app.backend
