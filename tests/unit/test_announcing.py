"""Workers hear of every parcel of a stream: at once, with others, after a moment, or at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gristmill.ingest import announcing
from gristmill.ingest.broker import messages_for
from gristmill.ingest.producer import Producer
from gristmill.ledger import HighWater, MemoryLedger
from gristmill_schemas import CollectionSpec, Document, EncoderInfo, Pooling
from gristmill_schemas.errors import BrokerRefused, BrokerUnavailable, GristmillError
from gristmill_schemas.limits import FIRST_PARCEL_DOCUMENTS

ENCODER = EncoderInfo(model="m", digest="m", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9)
SPEC = CollectionSpec(name="c", space=ENCODER.space())
ROOMY = HighWater(documents=10**9, bytes=10**12)


class Workers:
    """A broker whose workers hear, and find so many parcels in the ledger."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._heard = threading.Condition()
        self.found: list[int] = []
        self.failure: GristmillError | None = None

    def publish(self, model_digest: str, count: int = 1) -> None:
        if self.failure is not None:
            raise self.failure
        with self._heard:
            self.found += [self._ledger.load().parcels] * count
            self._heard.notify_all()

    def close(self) -> None:
        pass

    def hear_of(self, parcels: int) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: self.found[-1:] == [parcels], 60)


class Mill:
    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.workers = Workers(self.ledger)
        self._producer = Producer(self.ledger, self.workers, ROOMY)

    def feed(self, items: Iterator[Document]) -> None:
        self._producer.feed(SPEC, self.ledger.open_job("c"), items)


@pytest.fixture
def mill() -> Mill:
    return Mill()


def documents(parcels: int) -> Iterator[Document]:
    for number in range(parcels * FIRST_PARCEL_DOCUMENTS):
        yield Document(id=str(number), text="text" * 256)  # as many to a parcel in a long job as in a short one


def one_more() -> Document:
    """With which the parcel before it is full, and goes."""
    return Document(id="more", text="text")


@pytest.mark.parametrize("parcels", [0, 1, 16, 17, 18, 20, 32, 33, 40])
def test_the_last_message_comes_after_the_last_parcel(mill: Mill, parcels: int) -> None:
    mill.feed(documents(parcels))
    assert mill.workers.found[-1:] == ([parcels] if parcels else [])
    assert messages_for(parcels) <= len(mill.workers.found)


@pytest.mark.parametrize("parcels", [17, 18, 31, 34])
def test_a_stream_that_pauses_leaves_no_parcel_untold(
    mill: Mill, parcels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "QUIET_S", 0.01)

    def stream() -> Iterator[Document]:
        yield from documents(parcels)
        yield one_more()
        mill.workers.hear_of(parcels)

    mill.feed(stream())
    assert mill.workers.found[-1] == parcels + 1


def test_a_stream_that_fails_leaves_no_parcel_untold(mill: Mill) -> None:
    def stream() -> Iterator[Document]:
        yield from documents(18)
        yield one_more()
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        mill.feed(stream())
    assert mill.workers.found[-1] == mill.ledger.load().parcels == 18


def test_a_broker_that_is_away_does_not_fail_what_the_ledger_has_accepted(mill: Mill) -> None:
    mill.workers.failure = BrokerUnavailable("away")
    mill.feed(documents(18))
    assert mill.ledger.load().parcels == 18


@pytest.mark.parametrize("quiet_s", [0.0, 3600.0])
def test_what_is_refused_is_told_in_the_streams_own_thread(
    mill: Mill, quiet_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "QUIET_S", quiet_s)

    def stream() -> Iterator[Document]:
        yield from documents(17)
        yield one_more()
        mill.workers.failure = BrokerRefused("no")

    with pytest.raises(BrokerRefused, match="no"):
        mill.feed(stream())
    assert mill.ledger.load().parcels == 18
