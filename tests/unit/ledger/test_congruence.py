"""Both ledgers, driven by the same operations in any order, give the same answers; and every job always adds up."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import fuzzing
from gristmill.ledger import (
    AboveLimit,
    Accepted,
    Claim,
    Encoded,
    EnoughHeld,
    HighWater,
    Holding,
    Ledger,
    Load,
    MemoryLedger,
    RedisLedger,
    Ticket,
    Verdict,
    Waiting,
)
from gristmill.ledger.costs import JOB
from gristmill.ledger.limits.base import Limits
from gristmill.ledger.roster import Rostered
from gristmill.ledger.traces import Traces, Whose
from gristmill_schemas import Deletion, Document, Intent, JobReport, Outcome, Parcel, Priority
from gristmill_schemas.errors import JobCancelled
from unit.ledger.parcels import LONG_S, evidence_of, lapse, letter_of, redis_ledger

MARK = HighWater(documents=12, bytes=10**9, tenant=Limits(documents=8))
MODELS = st.sampled_from(["m", "n"])
NAMES = ("c", "d", "e:f")
COLLECTIONS = st.sampled_from(NAMES)
TENANTS = st.sampled_from([None, None, "acme", "bolt"])
#: Whose the items of a parcel are, in turn.
OWNERS = st.sampled_from([(None,), (None,), ("acme",), ("bolt",), ("acme", "bolt"), ("bolt", None)])
#: Few documents in few versions, so that they meet.
IDS = st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=4, unique=True)
VERSIONS = st.integers(1, 4)
#: Kinds of keys that nobody has any of when all jobs are over.
UNFINISHED = {
    *("parcel", "waiting", "lines", "later", "fair", "spent", "virtual", "held", "queued", "seconds", "tenants"),
    *("paused", "cancelling", "claim"),
}
#: Over at once, or not while a test runs.
DELAYS = st.sampled_from([0.0, LONG_S])
REPORTED = (
    "accepted",
    *Outcome,
    "pending",
    "rejected",
    "tokens",
    "chunks",
    "truncated",
    "encoded",
    "encoded_tokens",
    "state",
    "paused",
    "priority",
    "collection",
    "tenant",
    "abandoned",
)


def shape(load: Load) -> tuple[int, int, int]:
    """What both ledgers must count alike. Bytes may differ: versions and job ids do."""
    return load.parcels, load.documents, load.dead_letters


def counts(waiting: Waiting) -> Waiting:
    """All but the age itself."""
    return replace(waiting, oldest_s=None if waiting.oldest_s is None else 0.0)


@dataclass(frozen=True)
class JobOf:
    """One job, as each ledger knows it."""

    tickets: tuple[Ticket, Ticket]
    #: Those that were accepted, by sequence number, as the first ledger knows them.
    parcels: list[Parcel]


@dataclass(frozen=True)
class ClaimOf:
    """One claim, as each ledger knows it."""

    claims: tuple[Claim, Claim]

    @property
    def parcel(self) -> Parcel:
        return self.claims[0].parcel


def _claim(ledger: Ledger, model: str, holding: Holding) -> Claim | str | None:
    try:
        return ledger.claim(model, LONG_S, holding)
    except EnoughHeld:
        return "enough"


def _accept(ledger: Ledger, parcel: Parcel, sequence: int) -> Accepted | AboveLimit | str:
    try:
        return ledger.accept(parcel, sequence, MARK)
    except JobCancelled:
        return "cancelled"


def _erase(traces: Traces) -> list[int]:
    """How much of each kind there was; notes of claims first."""
    expelled, retracted = traces.expel(lambda _: None), len(traces.retract())
    rest = [traces.strike(), traces.exhume(), traces.disown()]
    assert [traces.pending(), traces.intents(), traces.rostered(), traces.buried(), traces.jobs()] == [0] * 5
    return [retracted, expelled, *rest]


def held_in(ledger: Ledger) -> list[str]:
    """Ids of the parcels that somebody has claimed."""
    if isinstance(ledger, MemoryLedger):
        return sorted(ledger._in_hand)
    assert isinstance(ledger, RedisLedger)
    held = [ledger._redis.zrange(ledger._key("held", model), 0, -1) for model in ("m", "n")]
    return [raw.decode() for each in cast("list[list[bytes]]", held) for raw in each]


class TwoLedgers(RuleBasedStateMachine):
    """`redis_url` is set by the test."""

    redis_url = ""
    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        self.ledgers: tuple[Ledger, Ledger] = (
            MemoryLedger(),
            self.closing.enter_context(redis_ledger(self.redis_url)),
        )
        self.evidence = tuple(evidence_of(ledger) for ledger in self.ledgers)
        self.known: list[JobOf] = []
        self.names = map("p{}".format, itertools.count())

    def teardown(self) -> None:
        with self.closing:
            self.all_ends_and_leaves_nothing()

    def all_ends_and_leaves_nothing(self) -> None:
        """Whatever was done: once all jobs are cancelled and all holders silent, no index holds anything."""
        for ledger, number in zip(self.ledgers, range(2), strict=True):
            for job in self.known:
                ledger.cancel(job.tickets[number].job_id)
            for parcel_id in held_in(ledger):
                lapse(ledger, parcel_id)
            ledger.forget_expired()
            while claim := ledger.claim("m", LONG_S) or ledger.claim("n", LONG_S):
                assert ledger.finish(claim, Verdict(Counter({Outcome.SKIPPED: len(claim.parcel)})))
        (left,) = {shape(ledger.load())[:2] for ledger in self.ledgers}
        if left != (0, 0):
            return  # what has been begun to be written, and is not due
        for ledger in self.ledgers:
            assert ledger.waiting() == {}
            assert {name: it.work for name, it in ledger.tenants.all().items() if it.work.documents} == {}
        memory, other = self.ledgers
        assert isinstance(memory, MemoryLedger)
        assert [lines for lines in memory._lines.values() if lines._waiting or lines._later or lines._fair._nodes] == []
        assert isinstance(other, RedisLedger)
        kinds = {key.decode().split(":")[1] for key in other._redis.scan_iter(f"{other._prefix}:*")}
        assert kinds & UNFINISHED == set()

    def both(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call both; they must agree."""
        memory, other = (getattr(ledger, name)(*args, **kwargs) for ledger in self.ledgers)
        assert memory == other, name
        return memory

    @rule(target=jobs, collection=COLLECTIONS, tenant=TENANTS, priority=st.sampled_from(Priority))
    def open_job(self, collection: str, tenant: str | None, priority: Priority) -> JobOf:
        first, second = (ledger.open_job(collection, tenant=tenant, priority=priority) for ledger in self.ledgers)
        job = JobOf((first, second), [])
        self.known.append(job)
        return job

    @rule(
        job=jobs,
        ids=IDS,
        deletes=st.integers(0, 2),
        version=VERSIONS,
        size=st.sampled_from([1, 9, 40]),
        again=st.booleans(),
        model=MODELS,
        collection=COLLECTIONS,
        owners=OWNERS,
    )
    def accept(
        self,
        job: JobOf,
        ids: list[str],
        deletes: int,
        version: int,
        size: int,
        again: bool,
        model: str,
        collection: str,
        owners: tuple[str | None, ...],
    ) -> None:
        owned = list(zip(ids, itertools.cycle(owners), strict=False))
        parcel = Parcel(
            id=next(self.names),
            job_id=job.tickets[0].job_id,
            collection=collection,
            model_digest=model,
            documents=tuple(Document(id=i, text="x" * size, tenant=t, version=version) for i, t in owned[deletes:]),
            deletions=tuple(Deletion(id=i, tenant=t, version=version) for i, t in owned[:deletes]),
            version=1,
            enqueued_at=1.0,
        )
        sequence = len(job.parcels)
        if again and job.parcels:
            sequence, parcel = sequence - 1, job.parcels[-1]
        memory, other = (
            _accept(ledger, parcel.model_copy(update={"job_id": ticket.job_id}), sequence)
            for ledger, ticket in zip(self.ledgers, job.tickets, strict=True)
        )
        # Of several tenants that would have too much, each ledger names whom it finds first.
        assert memory == other or (isinstance(memory, AboveLimit) and isinstance(other, AboveLimit) and owners[1:])
        if memory == "yes" and sequence == len(job.parcels):
            job.parcels.append(parcel)

    @rule(job=jobs, rejected=st.integers(0, 2))
    def close_job(self, job: JobOf, rejected: int) -> None:
        for ledger, ticket in zip(self.ledgers, job.tickets, strict=True):
            ledger.close_job(ticket.job_id, rejected)

    @rule(target=claims, model=MODELS, held=st.integers(0, 3), workers=st.integers(1, 3))
    def claim(self, model: str, held: int, workers: int) -> Any:
        memory, other = (_claim(ledger, model, Holding(held, workers)) for ledger in self.ledgers)
        if not isinstance(memory, Claim) or not isinstance(other, Claim):
            assert memory == other
            return multiple()
        assert (memory.parcel.id, memory.parcel.items) == (other.parcel.id, other.parcel.items)
        assert (memory.attempts, memory.last_error, memory.found) == (other.attempts, other.last_error, other.found)
        return ClaimOf((memory, other))

    def with_claims(self, name: str, held: ClaimOf, *args: Any, **kwargs: Any) -> bool:
        memory, other = (
            getattr(ledger, name)(claim, *args, **kwargs)
            for ledger, claim in zip(self.ledgers, held.claims, strict=True)
        )
        assert memory == other, name
        return bool(memory)

    @rule(held=claims)
    def begin(self, held: ClaimOf) -> None:
        self.with_claims("begin", held)

    @rule(held=claims, documents=st.integers(0, 4), tokens=st.integers(0, 9))
    def renew(self, held: ClaimOf, documents: int, tokens: int) -> None:
        for ledger, claim in zip(self.ledgers, held.claims, strict=True):
            ledger.renew([claim], LONG_S, {claim.token: Encoded(min(documents, len(held.parcel)), tokens)})

    @rule(held=claims, refund=st.booleans(), error=st.sampled_from(["", "broken"]), delay_s=DELAYS)
    def release(self, held: ClaimOf, refund: bool, error: str, delay_s: float) -> None:
        self.with_claims("release", held, refund=refund, error=error, delay_s=delay_s)

    @rule(model=MODELS, collection=COLLECTIONS, seconds=DELAYS)
    def rest(self, model: str, collection: str, seconds: float) -> None:
        self.both("rest", model, collection, seconds)

    @rule(held=claims, outcomes=st.lists(st.sampled_from(list(Outcome)), min_size=4, max_size=4), twice=st.booleans())
    def finish(self, held: ClaimOf, outcomes: list[Outcome], twice: bool) -> None:
        counts = Counter(outcomes[: len(held.parcel)])
        letters = tuple(letter_of(held.parcel, number) for number in range(counts[Outcome.DEAD]))
        for _ in range(2 if twice else 1):
            self.with_claims("finish", held, Verdict(counts, tokens=3, chunks=4, truncated=0, letters=letters))

    @rule(held=claims, model=MODELS)
    def reroute(self, held: ClaimOf, model: str) -> None:
        memory, other = (
            ledger.reroute(claim, claim.parcel.model_copy(update={"model_digest": model}))
            for ledger, claim in zip(self.ledgers, held.claims, strict=True)
        )
        assert memory == other

    @rule(held=claims, key=COLLECTIONS)
    def follow(self, held: ClaimOf, key: str) -> None:
        for ledger, claim in zip(self.ledgers, held.claims, strict=True):
            ledger.follow(claim.parcel, key)

    @rule(held=claims)
    def intend(self, held: ClaimOf) -> None:
        documents = held.parcel.documents
        memory, other = (
            ledger.intend(
                Intent(
                    token=claim.token,
                    parcel_id=claim.parcel.id,
                    collection=claim.parcel.collection,
                    key=claim.parcel.collection_key,
                    documents=tuple((each.id, each.tenant) for each in documents),
                    contents=tuple((each.id, 1) for each in documents),
                )
            )
            for ledger, claim in zip(self.ledgers, held.claims, strict=True)
        )
        assert memory == other

    @rule(held=claims)
    def fulfil(self, held: ClaimOf) -> None:
        for ledger, claim in zip(self.ledgers, held.claims, strict=True):
            ledger.fulfil(claim.token)

    @rule(held=claims, keys=st.sets(st.sampled_from("xyz")))
    def note_found(self, held: ClaimOf, keys: set[str]) -> None:
        self.with_claims("note_found", held, keys)

    @rule(held=consumes(claims))
    def split(self, held: ClaimOf) -> None:
        memory, other = (
            ledger.split(claim, claim.parcel.split(), attempts=1)
            for ledger, claim in zip(self.ledgers, held.claims, strict=True)
        )
        assert memory == other

    @rule(job=jobs, what=st.sampled_from(["pause", "pause", "resume", "resume", "cancel"]))
    def steer(self, job: JobOf, what: str) -> None:
        memory, other = (
            getattr(ledger, what)(ticket.job_id) for ledger, ticket in zip(self.ledgers, job.tickets, strict=True)
        )
        assert memory == other, what

    @rule()
    def look_after(self) -> None:
        self.both("forget_expired")

    @rule(held=claims)
    def fall_silent(self, held: ClaimOf) -> None:
        for ledger in self.ledgers:
            lapse(ledger, held.parcel.id)

    @rule(tenant=st.sampled_from(["acme", "bolt"]), most=st.sampled_from([0, 3, None]))
    def limit(self, tenant: str, most: int | None) -> None:
        for ledger in self.ledgers:
            ledger.tenants.limit(tenant, {"documents": most})

    @rule(tenant=st.sampled_from(["acme", "bolt"]))
    def unlimit(self, tenant: str) -> None:
        for ledger in self.ledgers:
            ledger.tenants.unlimit(tenant)

    @rule(tenant=st.sampled_from(["acme", "bolt"]), collection=COLLECTIONS)
    def erase(self, tenant: str, collection: str) -> None:
        """As `gristmill tenants erase` does with the ledger, place by place."""
        whose = Whose(tenant, collection, frozenset({collection}))
        memory, other = (_erase(each.traces(whose)) for each in self.evidence)
        assert memory == other
        assert [len(ledger.retractions()) for ledger in self.ledgers] == [memory[0]] * 2 or memory[0] == 0

    @rule(collection=COLLECTIONS, ids=IDS, tenant=TENANTS, version=VERSIONS, looking=st.booleans())
    def enlist(self, collection: str, ids: list[str], tenant: str | None, version: int, looking: bool) -> None:
        entries = [Rostered(each, tenant, version) for each in ids]
        memory, other = (each.enlist(collection, entries, looking=looking) for each in self.evidence)
        assert memory == other

    @rule(collection=COLLECTIONS, name=st.sampled_from("uvwxyz"), tenant=TENANTS, version=VERSIONS)
    def withdraw(self, collection: str, name: str, tenant: str | None, version: int) -> None:
        for each in self.evidence:
            each.withdraw(collection, name, tenant, version)

    @rule(collection=COLLECTIONS)
    def forget_roster(self, collection: str) -> None:
        for each in self.evidence:
            each.forget(collection)

    @rule(worker=st.sampled_from("vw"), model=MODELS, rate=st.sampled_from([0.5, 3, None]))
    def heartbeat(self, worker: str, model: str, rate: float | None) -> None:
        status = {"engines": [{"model_digest": model, "tokens_per_s": rate}]}
        for ledger in self.ledgers:
            ledger.heartbeat(worker, status, ttl_s=LONG_S)

    @rule(versions=st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2**53 - 1)))
    def bury(self, versions: dict[str, int]) -> None:
        self.both("bury", "c", versions)

    @rule(names=st.lists(st.sampled_from("xyzw"), max_size=4))
    def tombstones(self, names: list[str]) -> None:
        self.both("tombstones", "c", names)

    @rule(data=st.data())
    def drop_dead(self, data: st.DataObject) -> None:
        letters = [letter.id for letter in self.ledgers[0].dead_letters(100)]
        if letters:
            self.both("drop_dead", data.draw(st.lists(st.sampled_from(letters), unique=True)))

    @invariant()
    def jobs_agree_and_add_up(self) -> None:
        for job in self.known:
            reports = [ledger.report(ticket.job_id) for ledger, ticket in zip(self.ledgers, job.tickets, strict=True)]
            memory, other = (self.visible(report) for report in reports)
            assert memory == other
            report = reports[0]
            assert report is not None
            assert 0 <= report.encoded <= report.pending <= report.accepted
            assert report.accepted == report.pending + sum(getattr(report, outcome) for outcome in Outcome)
            assert report.chunks >= report.stored >= report.truncated

    @staticmethod
    def visible(report: JobReport | None) -> list[Any]:
        assert report is not None
        return [getattr(report, name) for name in REPORTED]

    @invariant()
    def what_waits_is_what_is_owed(self) -> None:
        loads = [ledger.load() for ledger in self.ledgers]
        assert [shape(loads[0]), self.ledgers[0].dead_summary()] == [shape(loads[1]), self.ledgers[1].dead_summary()]
        assert loads[1].documents <= MARK.documents or loads[1].parcels == 1
        owed = sum(report.pending for report in self.ledgers[1].jobs(1000))
        assert loads[1].documents == owed
        held = loads[1].bytes - JOB * len(self.known)
        assert (held == 0) == (loads[1].parcels == 0)
        assert (loads[1].dead_bytes == 0) == (loads[1].dead_letters == 0)

    @invariant()
    def what_waits_for_each_model_is_the_same(self) -> None:
        memory, other = (ledger.waiting() for ledger in self.ledgers)
        assert {m: counts(each) for m, each in memory.items()} == {m: counts(each) for m, each in other.items()}
        for model, waiting in memory.items():
            queues = [ledger.queued_jobs(model, 1000) for ledger in self.ledgers]
            (first, second) = ([(job.tokens, job.documents) for job in queue] for queue in queues)
            assert first == sorted(first, key=lambda each: each[0], reverse=True)
            assert sorted(first) == sorted(second)
            assert sum(tokens for tokens, _ in first) == waiting.tokens

    @invariant()
    def what_each_tenant_has_is_the_same(self) -> None:
        memory, other = ({name: it.work for name, it in ledger.tenants.all().items()} for ledger in self.ledgers)
        assert memory == other

    @invariant()
    def what_is_served_before_a_job_is_the_same(self) -> None:
        for job in self.known:
            memory, other = (
                ledger.before(ticket.job_id) for ledger, ticket in zip(self.ledgers, job.tickets, strict=True)
            )
            assert memory == other

    @invariant()
    def what_each_collection_should_hold_is_the_same(self) -> None:
        for name in NAMES:
            memory, other = (sorted(each.roster(name), key=repr) for each in self.evidence)
            assert memory == other

    @invariant()
    def what_nobody_answers_for_is_the_same(self) -> None:
        memory, other = (
            sorted((it.parcel_id, it.documents) for it in ledger.unfulfilled(1000)) for ledger in self.ledgers
        )
        assert memory == other

    @invariant()
    def as_many_workers_are_called(self) -> None:
        for model in ("m", "n"):
            self.both("rate", model)
            self.both("work_seconds", model)

    @invariant()
    def the_reconciler_sees_the_same(self) -> None:
        for model in ("m", "n"):
            self.both("backlog", model)

    @invariant()
    def the_dead_are_the_same(self) -> None:
        memory, other = ({letter.id for letter in ledger.dead_letters(1000)} for ledger in self.ledgers)
        assert memory == other


@pytest.mark.fuzz
@pytest.mark.server
def test_both_ledgers_answer_alike(redis_url: str) -> None:
    class Machine(TwoLedgers):
        pass

    Machine.redis_url = redis_url
    limits = settings(
        max_examples=fuzzing.COUNT // 15,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(Machine, settings=limits)
