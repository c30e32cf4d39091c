"""A tenant at its limit hands over exactly as much as it may, in parcels that do not crumble, and waits for room."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gristmill.ingest import producer
from gristmill.ingest.producer import Producer
from gristmill.ledger import UNBOUNDED, HighWater, Limits, MemoryLedger
from gristmill_schemas import CollectionSpec, Document, EncoderInfo, Pooling
from gristmill_schemas.errors import QueueFull
from unit.ledger.parcels import LONG_S, verdict_of

ENCODER = EncoderInfo(model="m", digest="m", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9)
SPEC = CollectionSpec(name="c", space=ENCODER.space())


class Silent:
    def publish(self, model_digest: str, count: int = 1) -> None:
        pass

    def close(self) -> None:
        pass


class Mill:
    def __init__(self, documents: int | None = None, tokens: int | None = None, bytes_: int | None = None) -> None:
        self.ledger = MemoryLedger()
        limits = Limits(documents, tokens, bytes_)
        self._producer = Producer(self.ledger, Silent(), HighWater(10**9, 10**12, limits))
        #: Documents of each batch that the ledger has taken.
        self.batches: list[list[str]] = []

    def feed(
        self,
        *documents: Document,
        block: bool = False,
        high_water: HighWater | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        ticket = self.ledger.open_job("c")
        return self._producer.feed(
            SPEC,
            ticket,
            documents,
            block=block,
            high_water=high_water,
            progress=progress,
            accepted=lambda batch: self.batches.append([item.id for item in batch]),
        )

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]

    def work(self) -> None:
        claim = self.ledger.claim("m", LONG_S)
        assert claim is not None
        self.ledger.finish(claim, verdict_of(claim.parcel))


def texts(count: int, tenant: str | None = "acme", size: int = 4) -> Iterator[Document]:
    return (Document(id=f"{tenant}-{n}", text="x" * size, tenant=tenant) for n in range(count))


@pytest.mark.parametrize(("limit", "sizes"), [(10, [10]), (64, [64]), (100, [64, 36]), (128, [64, 64]), (1, [1])])
def test_exactly_as_many_documents_come_in_as_may(limit: int, sizes: list[int]) -> None:
    mill = Mill(documents=limit)
    with pytest.raises(QueueFull):
        mill.feed(*texts(200))
    assert mill.sizes == sizes
    assert mill.ledger.tenants.get("acme").work.documents == limit


def test_tokens_and_bytes_are_filled_likewise() -> None:
    for mill in (Mill(tokens=70), Mill(bytes_=70 * (4 + 2 + 64))):
        with pytest.raises(QueueFull):
            mill.feed(*texts(200))
        assert mill.sizes == [64, 6]


def test_a_document_above_the_limit_goes_by_itself_wherever_it_stands() -> None:
    mill = Mill(tokens=10)
    large = Document(id="large", text="x" * 80, tenant="acme")
    with pytest.raises(QueueFull, match="20 of its tokens wait"):
        mill.feed(*texts(3, None), large, *texts(3))
    assert [batch[-1] for batch in mill.batches] == ["None-2", "large"]
    mill.work()
    mill.work()
    assert mill.feed(*texts(3)) == 3


def test_what_did_not_fit_waits_whole_instead_of_crumbling() -> None:
    mill = Mill(documents=100)
    looks: list[int] = []

    def progress(accepted: int) -> None:
        looks.append(accepted)
        if accepted < 200:
            mill.work()

    mill.feed(*texts(200), block=True, progress=progress)
    assert sum(mill.sizes) == 200
    assert len(mill.batches) <= 8


@pytest.mark.parametrize("told", [True, False])
def test_a_stream_that_waits_long_says_once_what_for(
    told: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "_FULL_SAID_S", 0.0 if told else 1e9)
    mill = Mill(documents=64)
    seen: list[int] = []

    def progress(accepted: int) -> None:
        if accepted in seen:  # it waits
            mill.work()
        seen.append(accepted)

    with caplog.at_level("WARNING"):
        mill.feed(*texts(192), block=True, progress=progress)
    assert len(seen) > len(set(seen))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == told
    assert all(each.startswith("enqueue waits: tenant 'acme': 64 of its documents wait") for each in said)


def test_the_error_says_whose_limit_what_waits_and_what_to_do_and_nothing_of_others() -> None:
    mill = Mill(documents=70)
    mill.feed(*texts(900, "evil-corp"), high_water=UNBOUNDED)
    with pytest.raises(QueueFull) as full:
        mill.feed(*texts(80, "acme & co"))
    assert (full.value.tenant, full.value.collection) == ("acme & co", "c")
    told = str(full.value)
    assert "tenant 'acme & co': 70 of its documents wait or are being worked on, and it may have 70" in told
    assert "`gristmill tenants limit 'acme & co' --documents N`" in told
    assert "evil" not in told
    assert "900" not in told


def test_nobody_else_is_held_up() -> None:
    mill = Mill(documents=1)
    with pytest.raises(QueueFull):
        mill.feed(*texts(2))
    assert mill.feed(*texts(1, "bolt"), *texts(100, None)) == 101


def test_a_call_of_several_tenants_hands_over_what_comes_before_the_one_that_has_enough() -> None:
    mill = Mill(documents=2)
    with pytest.raises(QueueFull) as full:
        mill.feed(*texts(1, "bolt"), *texts(3), *texts(1, "cube"))
    assert full.value.tenant == "acme"
    assert mill.batches == [["bolt-0", "acme-0", "acme-1"]]


def test_a_tenant_that_may_have_nothing_gets_nothing_in() -> None:
    mill = Mill(documents=0)
    with pytest.raises(QueueFull, match="and it may have 0"):
        mill.feed(*texts(1))
    assert mill.batches == []
