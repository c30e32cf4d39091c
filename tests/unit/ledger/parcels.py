"""Parcels for the ledger's tests, and both ledgers behind one handle that can let a lease run out."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

from gristmill.ledger import HighWater, Keeping, Ledger, MemoryLedger, RedisLedger, Ticket, Verdict
from gristmill.ledger.connection import connect
from gristmill.ledger.reading import MemoryEvidence, RedisEvidence
from gristmill.settings import ClientSettings, load_settings
from gristmill_schemas import DeadLetter, Deletion, Document, Outcome, Parcel

ROOMY = HighWater(documents=100_000, bytes=100_000_000)
LONG_S = 3600.0


def parcel_of(
    ticket: Ticket,
    parcel_id: str = "p",
    items: int = 2,
    *,
    text: str = "text",
    model: str = "m",
    collection: str = "c",
    tenant: str | None = None,
) -> Parcel:
    """A parcel of so many documents."""
    return Parcel(
        id=parcel_id,
        job_id=ticket.job_id,
        collection=collection,
        model_digest=model,
        documents=tuple(Document(id=f"{parcel_id}-{n}", text=f"{text} {n}", tenant=tenant) for n in range(items)),
        version=ticket.version,
        enqueued_at=ticket.opened_at,
    )


def verdict_of(parcel: Parcel, dead: int = 0, tokens: int = 7) -> Verdict:
    """All stored, but for the first few, which are dead and have their letters."""
    letters = tuple(letter_of(parcel, number) for number in range(dead))
    outcomes = Counter({Outcome.STORED: len(parcel) - dead, Outcome.DEAD: dead})
    return Verdict(outcomes, tokens=tokens, chunks=len(parcel) - dead, letters=letters)


def letter_of(parcel: Parcel, number: int) -> DeadLetter:
    """The letter of one of a parcel's documents."""
    return DeadLetter(
        id=f"{parcel.id}-{number}",
        job_id=parcel.job_id,
        collection=parcel.collection,
        model_digest=parcel.model_digest,
        document=item if isinstance(item := parcel.items[number], Document) else None,
        deletion=item if isinstance(item, Deletion) else None,
        version=parcel.version,
        error="EncodingFailed",
        reason="bad",
        attempts=1,
        enqueued_at=parcel.enqueued_at,
        died_at=1.0,
    )


@contextlib.contextmanager
def redis_ledger(redis_url: str, keeping: Keeping | None = None, **settings: Any) -> Iterator[RedisLedger]:
    """A ledger under a prefix of its own, unless one is given, on a pool of its own."""
    chosen = {"key_prefix": f"t-{uuid.uuid4().hex[:8]}", **settings}
    made = load_settings(ClientSettings, redis_url=redis_url, **chosen)
    with contextlib.closing(connect(made)) as client:
        yield RedisLedger(made, client, keeping)


def evidence_of(ledger: Ledger) -> RedisEvidence | MemoryEvidence:
    """What the ledger can say to people."""
    if isinstance(ledger, RedisLedger):
        return RedisEvidence(ledger)
    assert isinstance(ledger, MemoryLedger)
    return MemoryEvidence(ledger)


def lapse(ledger: Ledger, parcel_id: str) -> None:
    """The parcel's lease runs out now, as after `lease_s` seconds of silence."""
    if isinstance(ledger, MemoryLedger):
        if (kept := ledger._parcels.get(parcel_id)) is not None and kept.token:
            kept.lease_end = 1.0
    elif isinstance(ledger, RedisLedger):
        model = cast("bytes | None", ledger._redis.hget(ledger._key("parcel", parcel_id), "model"))
        if model is not None:
            ledger._redis.zadd(ledger._key("held", model.decode()), {parcel_id: 1_000_000}, xx=True)


def begun_long_ago(ledger: Ledger, parcel_id: str) -> None:
    """Whoever began to write the parcel did so in another age, as in an old copy of Redis."""
    if isinstance(ledger, MemoryLedger):
        ledger._parcels[parcel_id].begun_at = 1.0
    elif isinstance(ledger, RedisLedger):
        assert ledger._redis.hset(ledger._key("parcel", parcel_id), "begun", 1_000_000) == 0, "it was begun"


def corrupt(ledger: Ledger, parcel_id: str) -> None:
    """Something overwrites the parcel's bytes."""
    if isinstance(ledger, MemoryLedger):
        ledger._parcels[parcel_id].body = b"no parcel"
    elif isinstance(ledger, RedisLedger):
        ledger._redis.hset(ledger._key("parcel", parcel_id), "body", b"no parcel")


MakeLedger = Callable[..., Ledger]
