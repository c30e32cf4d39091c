"""What one message is good for: parcels of its model, one after the other, and no worker keeps it for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gristmill.ingest.broker import MESSAGE_S, PARCELS_PER_MESSAGE, messages_for
from gristmill.ledger import HighWater, MemoryLedger
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store
from gristmill_schemas import CollectionSpec, Document, Parcel
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline import engine as engine_module
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.pipeline.handler import Handled
from gristmill_worker.process.host import Host
from gristmill_worker.settings import WorkerSettings

ROOMY = HighWater(documents=10_000, bytes=100_000_000)


class Mill:
    """One engine over a ledger in memory, and no threads: whoever holds it takes each message by hand."""

    def __init__(self, closing: ExitStack) -> None:
        self.ledger = MemoryLedger()
        store = open_local_store(":memory:")
        closing.callback(store.close)
        collections = Collections(store, local=True)
        host = Host(WorkerSettings(), self.ledger, store, collections, lambda model_digest, count: None)
        closing.callback(host.close)
        self.engine: Engine = host.add(HashEncoder(4))
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
def mill() -> Iterator[Mill]:
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


def test_a_short_job_has_a_message_for_each_parcel_and_a_long_one_for_every_sixteen() -> None:
    assert [messages_for(each) for each in (0, 1, 16, 17, 32, 33)] == [0, 1, 16, 17, 17, 18]
    assert messages_for(16 + 160) == 26
