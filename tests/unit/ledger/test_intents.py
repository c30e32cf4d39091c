"""What a claim is about to write, and rosters that follow their parcels: the same on both ledgers."""

from __future__ import annotations

from gristmill.ledger import Claim, Ledger, MemoryLedger, RedisLedger
from gristmill.ledger.reading import Evidence, MemoryEvidence, RedisEvidence
from gristmill.ledger.roster import Rostered
from gristmill_schemas import Deletion, Document, Intent, Parcel
from unit.ledger.parcels import LONG_S, ROOMY, lapse, parcel_of, redis_ledger, verdict_of


def claimed(ledger: Ledger, name: str = "p") -> Claim:
    ticket = ledger.open_job("c")
    ledger.accept(parcel_of(ticket, name), 0, ROOMY)
    claim = ledger.claim("m", LONG_S)
    assert isinstance(claim, Claim)
    return claim


def intent_of(claim: Claim) -> Intent:
    return Intent(
        token=claim.token,
        parcel_id=claim.parcel.id,
        collection="c",
        key="c@1",
        documents=(("a", None), ("a", "x")),
    )


def test_an_intent_stays_behind_when_its_claim_is_taken_over_and_the_parcel_finished(ledger: Ledger) -> None:
    frozen = claimed(ledger)
    ledger.intend(intent_of(frozen))
    assert ledger.unfulfilled(10) == [], "it holds its parcel"
    lapse(ledger, "p")
    other = ledger.claim("m", LONG_S)
    assert isinstance(other, Claim)
    assert ledger.unfulfilled(10) == [intent_of(frozen)]
    ledger.intend(intent_of(other))
    assert ledger.finish(other, verdict_of(other.parcel))
    assert ledger.unfulfilled(10) == [intent_of(frozen)]
    ledger.fulfil(frozen.token)
    ledger.fulfil(frozen.token)
    assert ledger.unfulfilled(10) == []


def test_a_verdict_that_comes_too_late_to_count_ends_the_intent_of_who_brings_it(ledger: Ledger) -> None:
    frozen = claimed(ledger)
    ledger.intend(intent_of(frozen))
    lapse(ledger, "p")
    other = ledger.claim("m", LONG_S)
    assert isinstance(other, Claim)
    ledger.intend(intent_of(other))
    assert not ledger.finish(frozen, verdict_of(frozen.parcel))
    lapse(ledger, "p")
    assert ledger.claim("m", LONG_S) is not None
    assert ledger.unfulfilled(10) == [intent_of(other)]


def test_the_newest_intents_come_first_and_one_said_again_counts_once(ledger: Ledger) -> None:
    claims = [claimed(ledger, f"p{number}") for number in range(3)]
    for claim in claims:
        ledger.intend(intent_of(claim))
        ledger.intend(intent_of(claim))
        ledger.split(claim, claim.parcel.split(), attempts=1)
    found = ledger.unfulfilled(2)
    assert [intent.parcel_id for intent in found] == ["p2", "p1"]


def test_intents_do_not_outlive_the_tombstones_they_are_held_against(redis_url: str) -> None:
    with redis_ledger(redis_url, tombstone_ttl_s=1000) as ledger:
        ledger.intend(intent_of(claimed(ledger)))
        keys = [key for key in ledger._redis.scan_iter("*") if b":intent" in key]
        assert len(keys) == 2
        assert all(0 < ledger._redis.ttl(key) <= 1000 for key in keys)


def evidence_of(ledger: Ledger) -> Evidence:
    if isinstance(ledger, MemoryLedger):
        return MemoryEvidence(ledger)
    assert isinstance(ledger, RedisLedger)
    return RedisEvidence(ledger)


def test_a_roster_follows_its_parcel_to_another_collection_however_often(ledger: Ledger) -> None:
    evidence = evidence_of(ledger)
    ticket = ledger.open_job("c")
    parcel = parcel_of(ticket, items=2).model_copy(update={"collection_key": "old@1"})
    ledger.accept(parcel, 0, ROOMY)
    assert {entry.id for entry in evidence.roster("old@1")} == {"p-0", "p-1"}
    for _ in range(2):
        ledger.follow(parcel, "new@2")
        assert list(evidence.roster("old@1")) == []
        assert {(entry.id, entry.version) for entry in evidence.roster("new@2")} == {
            ("p-0", ticket.version),
            ("p-1", ticket.version),
        }
    deletion = Parcel(
        id="d",
        job_id=ticket.job_id,
        collection="c",
        collection_key="old@1",
        model_digest="m",
        deletions=(Deletion(id="p-0"),),
        version=ticket.version + 1,
        enqueued_at=ticket.opened_at,
    )
    ledger.follow(deletion, "new@2")
    assert {entry.id for entry in evidence.roster("new@2")} == {"p-1"}


def test_a_roster_holds_whatever_a_document_may_be_called_at_whatever_version(ledger: Ledger) -> None:
    names = [
        ("a", None),
        ('q"uo\\te', "x"),
        ("信用卡", "租户"),
        ("😀" * 3, None),
        ("tab\tnew\nline", "a:b"),
        ("7", "é"),
    ]
    documents = tuple(
        Document(id=name, tenant=tenant, text="t", version=2**53 - 1 - number)
        for number, (name, tenant) in enumerate(names)
    )
    ticket = ledger.open_job("c")
    ledger.accept(parcel_of(ticket).model_copy(update={"documents": documents}), 0, ROOMY)
    held = {(each.id, each.tenant, each.version) for each in evidence_of(ledger).roster("c")}
    assert held == {(each.id, each.tenant, each.version) for each in documents}


def test_what_was_accepted_anew_meanwhile_stays_on_the_old_roster(ledger: Ledger) -> None:
    evidence = evidence_of(ledger)
    ticket = ledger.open_job("c")
    parcel = parcel_of(ticket, items=1)
    ledger.accept(parcel, 0, ROOMY)
    newer = parcel.model_copy(update={"id": "p2", "version": parcel.version + 1})
    ledger.accept(newer, 1, ROOMY)
    ledger.follow(parcel, "new@2")
    assert [(entry.id, entry.version) for entry in evidence.roster("c")] == [("p-0", newer.version)]


def test_a_roster_is_told_what_it_lacks_and_by_a_look_nothing(ledger: Ledger) -> None:
    evidence = evidence_of(ledger)
    first, newer = Rostered("ä", "acme", 1_795_714_333_067_589), Rostered("ä", "acme", 1_795_714_333_067_590)
    other = Rostered("b", None, 0)
    assert evidence.enlist("c", [first, other], looking=True) == [first, other]
    assert list(evidence.roster("c")) == []
    assert evidence.enlist("c", [first, other]) == [first, other]
    assert evidence.enlist("c", [first, newer]) == [newer]
    assert evidence.enlist("c", [first, newer, other], looking=True) == []
    assert set(evidence.roster("c")) == {newer, other}
