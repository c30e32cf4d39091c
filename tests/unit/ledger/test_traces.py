"""What the ledger holds of a tenant, counted and erased: the same on both ledgers."""

from __future__ import annotations

import re
import zlib
from typing import Any

import pytest
import redis

from gristmill.ledger import Claim, Ledger, MemoryLedger, RedisLedger
from gristmill.ledger.base import Begun
from gristmill.ledger.reading import MemoryEvidence, RedisEvidence
from gristmill.ledger.traces import Traces, Whose
from gristmill_schemas import Deletion, Document, Intent, Parcel, Retraction, point_id
from unit.ledger.parcels import LONG_S, ROOMY, redis_ledger, verdict_of

KEY = "c@1"


def traces_of(ledger: Ledger, tenant: str = "acme") -> Traces:
    whose = Whose(tenant, KEY, frozenset({"c"}))
    if isinstance(ledger, MemoryLedger):
        return MemoryEvidence(ledger).traces(whose)
    assert isinstance(ledger, RedisLedger)
    return RedisEvidence(ledger).traces(whose)


def accepted(ledger: Ledger, *tenants: str, deletes: str | None = None) -> Parcel:
    """A job of one parcel, with a document of each tenant."""
    ticket = ledger.open_job("c")
    parcel = Parcel(
        id=f"{ticket.job_id}.0",
        job_id=ticket.job_id,
        collection="c",
        collection_key=KEY,
        model_digest="m",
        documents=tuple(Document(id=f"d-{tenant}", tenant=tenant, text=f"text of {tenant}") for tenant in tenants),
        deletions=() if deletes is None else (Deletion(id="gone", tenant=deletes),),
        version=ticket.version,
        enqueued_at=ticket.opened_at,
    )
    ledger.accept(parcel, 0, ROOMY)
    ledger.close_job(ticket.job_id)
    return parcel


def claimed(ledger: Ledger) -> Claim:
    claim = ledger.claim("m", LONG_S)
    assert isinstance(claim, Claim)
    return claim


def intent_of(claim: Claim) -> Intent:
    return Intent(
        token=claim.token,
        parcel_id=claim.parcel.id,
        collection="c",
        key=KEY,
        job_id=claim.parcel.job_id,
        documents=tuple((each.id, each.tenant) for each in claim.parcel.documents),
        contents=tuple((f"etag of {each.tenant}", 7) for each in claim.parcel.documents),
    )


def publish(model: str) -> None:
    assert model == "m"


def test_a_tenants_items_leave_a_waiting_parcel_and_the_others_stay(ledger: Ledger) -> None:
    parcel = accepted(ledger, "acme", "evil", deletes="acme")
    alone = accepted(ledger, "acme")
    traces = traces_of(ledger)
    assert traces.pending() == 3
    assert (traces.expel(publish), traces.pending(), traces.expel(publish)) == (3, 0, 0)
    for owner, gone, pending in ((parcel, 2, 1), (alone, 1, 0)):
        report = ledger.report(owner.job_id)
        assert report is not None
        assert (report.gone, report.pending, report.state) == (gone, pending, "running" if pending else "done")
    claim = claimed(ledger)
    assert [item.tenant for item in claim.parcel.items] == ["evil"]
    assert ledger.finish(claim, verdict_of(claim.parcel))
    assert ledger.claim("m", LONG_S) is None
    load = ledger.load()
    assert (load.parcels, load.documents) == (0, 0)
    assert ledger.backlog("m") == 0


def test_who_holds_a_parcel_of_an_erased_tenant_holds_it_no_more(ledger: Ledger) -> None:
    accepted(ledger, "acme", "evil", deletes="acme")
    lost = claimed(ledger)
    ledger.begin(lost)
    told: list[str] = []
    assert traces_of(ledger).expel(told.append) == 2
    assert told == ["m"], "what is left of it waits for somebody else"
    assert not ledger.intend(intent_of(lost))
    assert not ledger.bury(KEY, {point_id("gone", "acme"): 9}, {point_id("gone", "acme"): "acme"}, lost)
    assert ledger.begin(lost) is Begun.NO
    assert not ledger.finish(lost, verdict_of(lost.parcel))
    assert (traces_of(ledger).buried(), traces_of(ledger).intents()) == (0, 0)
    heir = claimed(ledger)
    assert [item.tenant for item in heir.parcel.items] == ["evil"]
    assert ledger.finish(heir, verdict_of(heir.parcel))
    assert ledger.load().parcels == 0


def test_what_was_to_be_written_becomes_a_retraction_that_names_nobody(ledger: Ledger) -> None:
    accepted(ledger, "acme", "evil")
    claim = claimed(ledger)
    assert ledger.intend(intent_of(claim))
    traces = traces_of(ledger)
    traces.expel(publish)
    assert traces.intents() == 1
    (made,) = traces.retract()
    assert (traces.intents(), traces.retract()) == (0, [])
    (retraction,) = ledger.retractions()
    assert (retraction.id, retraction.token, retraction.job_id) == (made, claim.token, claim.parcel.job_id)
    assert retraction.contents == (("etag of acme", 7),)
    assert "acme" not in Retraction.model_dump_json(retraction.model_copy(update={"contents": ()}))
    (left,) = ledger.unfulfilled(10)
    assert (left.documents, left.contents) == ((("d-evil", "evil"),), (("etag of evil", 7),))
    ledger.lift(made)
    assert ledger.retractions() == []


def test_only_the_tenants_deletions_are_forgotten(ledger: Ledger) -> None:
    ids = {tenant: point_id("1", tenant) for tenant in ("acme", "evil")}
    for tenant, point in ids.items():
        ledger.bury(KEY, {point: 5}, {point: tenant})
        ledger.bury("other", {point: 5}, {point: tenant})
    traces = traces_of(ledger)
    assert (traces.buried(), traces.exhume(), traces.buried(), traces.exhume()) == (1, 1, 0, 0)
    assert ledger.tombstones(KEY, list(ids.values())) == {ids["evil"]: 5}
    assert len(ledger.tombstones("other", list(ids.values()))) == 2
    assert traces_of(ledger, "evil").exhume() == 1
    claim_of = accepted(ledger, "evil").collection_key
    assert (claim_of, ledger.begin(claimed(ledger))) == (KEY, Begun.CLEAR), "none is remembered there"


def test_only_the_tenants_names_leave_the_roster_and_its_jobs(ledger: Ledger) -> None:
    for tenants in (("acme",), ("acme", "evil"), ("acme2",), ("a",)):
        accepted(ledger, *tenants)
    traces = traces_of(ledger)
    assert (traces.rostered(), traces.strike(), traces.rostered()) == (1, 1, 0)
    assert (traces.jobs(), traces.disown(), traces.jobs()) == (1, 1, 0)
    assert (traces_of(ledger, "acme2").rostered(), traces_of(ledger, "evil").rostered()) == (1, 1)
    assert [report.tenant for report in ledger.jobs(10)] == ["a", "acme2", None, None]


def test_a_webhook_that_waits_names_an_erased_tenant_no_more(ledger: Ledger) -> None:
    for tenant in ("acme", "evil"):
        ledger.close_job(ledger.open_job("c", tenant=tenant, notify="https://hooks.example.com/").job_id)
    traces = traces_of(ledger)
    assert (traces.jobs(), traces.disown(), traces.jobs()) == (2, 2, 0)
    told = [ledger.webhooks.take(LONG_S) for _ in range(2)]
    assert {webhook and webhook.job.tenant for webhook in told} == {None, "evil"}


def test_a_job_in_line_whose_tenant_is_erased_leaves_nothing_where_it_stood(ledger: Ledger) -> None:
    """More may come in while its tenant is erased, and where a job stands in line changes with whose it is."""
    parcel = accepted(ledger, "acme")
    assert traces_of(ledger).disown() == 1
    ledger.cancel(parcel.job_id)
    if isinstance(ledger, RedisLedger):
        assert [*ledger._redis.scan_iter(f"{ledger._prefix}:fair:*")] == []
    elif isinstance(ledger, MemoryLedger):
        assert not ledger._lines["m"]._fair._nodes


@pytest.mark.server
def test_nothing_in_redis_names_an_erased_tenant(redis_url: str) -> None:
    with redis_ledger(redis_url) as ledger, redis.Redis.from_url(redis_url) as client:
        for _ in range(2):
            accepted(ledger, "acme", "evil", deletes="acme")
        claim = claimed(ledger)
        ledger.begin(claim)
        ledger.intend(intent_of(claim))
        ledger.bury(KEY, {point_id("1", "acme"): 5}, {point_id("1", "acme"): "acme"})
        ledger.release(claim, refund=False, error="acme's text")
        done = ledger.open_job("c", tenant="acme", notify="https://hooks.example.com/")
        ledger.close_job(done.job_id)
        assert names(client)
        traces = traces_of(ledger)
        traces.expel(publish), traces.retract(), traces.strike(), traces.exhume(), traces.disown()
        assert [key for key in names(client) if b":retraction:" not in key] == []
        assert all(client.ttl(key) > 0 for key in client.scan_iter("*retraction*"))


def names(client: redis.Redis) -> list[bytes]:
    """Keys that name the tenant, or whose values do."""
    return [key for key in client.scan_iter(count=1000) if b"acme" in key + b" ".join(values(client, key))]


def values(client: Any, key: bytes) -> list[bytes]:
    """Everything that a key holds, unpacked."""
    match client.type(key):
        case b"hash":
            found = [part for pair in client.hgetall(key).items() for part in pair]
        case b"zset":
            found = client.zrange(key, 0, -1)
        case b"set":
            found = list(client.smembers(key))
        case b"string":
            found = [client.get(key)]
        case _:
            found = client.lrange(key, 0, -1)
    return [zlib.decompress(each) if re.match(rb"\x78[\x01\x5e\x9c\xda]", each) else each for each in found]
