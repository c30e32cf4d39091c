"""How much a tenant has unfinished, and how much it may: counted exactly, in both ledgers, however work comes and ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill.ledger import AboveLimit, Accepted, Claim, HighWater, Ledger, Limits, MemoryLedger, Ticket
from gristmill.ledger.limits.base import Work
from gristmill.ledger.reading import MemoryEvidence, RedisEvidence
from gristmill.ledger.redis import RedisLedger
from gristmill.ledger.traces import Whose
from gristmill_schemas import Deletion, Document, Parcel
from unit.ledger.parcels import LONG_S, ROOMY, corrupt, lapse, parcel_of, redis_ledger, verdict_of


def marks(documents: int | None = None, tokens: int | None = None, bytes_: int | None = None) -> HighWater:
    return HighWater(10**6, 10**9, Limits(documents, tokens, bytes_))


def mixed(ticket: Ticket, name: str, *tenants: str | None) -> Parcel:
    """A parcel with a document of each."""
    documents = tuple(Document(id=f"{name}-{n}", text="some text", tenant=each) for n, each in enumerate(tenants))
    return parcel_of(ticket, name, 0).model_copy(update={"documents": documents})


def has(ledger: Ledger) -> dict[str, int]:
    """Unfinished documents of each tenant."""
    return {tenant: standing.work.documents for tenant, standing in ledger.tenants.all().items()}


class TestCounting:
    def test_documents_tokens_and_bytes_of_each_tenant_and_of_nobody_else(self, ledger: Ledger) -> None:
        ticket = ledger.open_job("c")
        ledger.accept(mixed(ticket, "p", "acme", None, "bolt", "acme"), 0, ROOMY)
        ledger.accept(parcel_of(ticket, "q", 1, text="日本", tenant="acme"), 1, ROOMY)
        assert ledger.tenants.get("acme").work == Work(3, 2 + 2 + 2, 2 * (9 + 2 + 64) + 8 + 2 + 64)
        assert ledger.tenants.get("bolt").work == Work(1, 2, 75)
        assert has(ledger) == {"acme": 3, "bolt": 1}
        assert ledger.tenants.count() == 2

    def test_a_deletion_is_work_too(self, ledger: Ledger) -> None:
        ticket = ledger.open_job("c")
        deleting = parcel_of(ticket, "p", 0).model_copy(update={"deletions": (Deletion(id="1", tenant="acme"),)})
        ledger.accept(deleting, 0, ROOMY)
        assert ledger.tenants.get("acme").work == Work(1, 1, 64)

    @pytest.mark.parametrize("end", ["finish", "cancel", "unreadable", "silent", "erased", "split", "given back"])
    def test_however_work_ends_it_is_counted_no_more(self, ledger: Ledger, end: str) -> None:
        ticket = ledger.open_job("c")
        parcel = mixed(ticket, "p", "acme", "bolt")
        ledger.accept(parcel, 0, ROOMY)
        if end in ("finish", "split", "given back", "silent"):
            claim = taken(ledger)
            assert has(ledger) == {"acme": 1, "bolt": 1}, "what is in hand is unfinished"
            if end == "finish":
                ledger.finish(claim, verdict_of(parcel, dead=1))
            elif end == "split":
                ledger.split(claim, parcel.split(), attempts=1)
            elif end == "given back":
                ledger.release(claim, refund=False)
            else:
                lapse(ledger, "p")
        elif end == "unreadable":
            corrupt(ledger, "p")
            with pytest.raises(Exception, match="p: "):
                ledger.claim("m", LONG_S)
        elif end == "cancel":
            ledger.cancel(ticket.job_id)
        else:
            erase(ledger, "acme")
            assert has(ledger) == {"bolt": 1}
        while rest := ledger.claim("m", LONG_S):
            ledger.finish(rest, verdict_of(rest.parcel))
        assert has(ledger) == {}


def taken(ledger: Ledger) -> Claim:
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    return claim


def erase(ledger: Ledger, tenant: str) -> None:
    evidence = MemoryEvidence(ledger) if isinstance(ledger, MemoryLedger) else RedisEvidence(redis_of(ledger))
    evidence.traces(Whose(tenant, "c", frozenset({"c"}))).expel(lambda _: None)


def redis_of(ledger: Ledger) -> RedisLedger:
    assert isinstance(ledger, RedisLedger)
    return ledger


class TestLimits:
    @pytest.fixture(autouse=True)
    def opened(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.ticket = ledger.open_job("c")
        self.sequence = 0

    def accept(self, marks: HighWater, *tenants: str | None) -> Accepted | AboveLimit:
        parcel = mixed(self.ticket, f"p{self.sequence}", *tenants)
        answer = self.ledger.accept(parcel, self.sequence, marks)
        self.sequence += answer is Accepted.YES
        return answer

    def test_above_the_limit_nothing_changes_and_the_answer_says_whose_and_which(self) -> None:
        assert self.accept(marks(documents=3), *["acme"] * 2) is Accepted.YES
        assert self.accept(marks(documents=3), *["acme"] * 2) == AboveLimit("acme", "documents", 3, 2)
        assert self.accept(marks(tokens=5), "acme") == AboveLimit("acme", "tokens", 5, 4)
        assert self.accept(marks(bytes_=200), "acme") == AboveLimit("acme", "bytes", 200, 150)
        assert has(self.ledger) == {"acme": 2}
        assert self.ledger.load().documents == 2
        assert self.accept(marks(documents=3, tokens=6, bytes_=225), "acme") is Accepted.YES

    def test_other_tenants_and_documents_of_nobody_are_not_held_up(self) -> None:
        assert self.accept(marks(documents=1), "acme") is Accepted.YES
        assert isinstance(self.accept(marks(documents=1), "acme"), AboveLimit)
        assert self.accept(marks(documents=1), "bolt") is Accepted.YES
        assert self.accept(marks(documents=1), *[None] * 9) is Accepted.YES

    def test_what_ends_makes_room(self) -> None:
        self.accept(marks(documents=1), "acme")
        self.ledger.finish(claim := taken(self.ledger), verdict_of(claim.parcel))
        assert self.accept(marks(documents=1), "acme") is Accepted.YES

    def test_a_document_that_is_above_the_limit_by_itself_comes_in_alone(self) -> None:
        assert self.accept(marks(tokens=1), "acme") is Accepted.YES
        assert self.accept(marks(tokens=1), "acme") == AboveLimit("acme", "tokens", 1, 2)

    def test_with_a_limit_of_nothing_nothing_comes_in(self) -> None:
        for none in (marks(documents=0), marks(tokens=0), marks(bytes_=0)):
            assert isinstance(self.accept(none, "acme"), AboveLimit)

    def test_a_tenants_own_limits_stand_instead_of_the_default_one_by_one(self) -> None:
        self.ledger.tenants.limit("acme", {"documents": 2})
        assert self.accept(marks(documents=1, tokens=3), "acme", "acme") == AboveLimit("acme", "tokens", 3, 0)
        self.ledger.tenants.limit("acme", {"tokens": None})
        assert self.accept(marks(documents=1, tokens=3), "acme", "acme") is Accepted.YES
        assert self.accept(marks(), "acme") == AboveLimit("acme", "documents", 2, 2)
        assert self.ledger.tenants.get("acme").own == {"documents": 2, "tokens": None}
        self.ledger.tenants.unlimit("acme")
        assert self.accept(marks(), "acme") is Accepted.YES
        assert self.ledger.tenants.get("acme").own == {}

    def test_names_may_hold_anything(self) -> None:
        name = 'a:b "c" \\ ü 日本 😀'
        self.ledger.tenants.limit(name, {"documents": 1})
        assert self.accept(marks(), name) is Accepted.YES
        assert self.accept(marks(), name) == AboveLimit(name, "documents", 1, 1)
        assert self.ledger.tenants.all().keys() == {name}

    def test_what_is_taken_back_from_the_dead_is_not_limited(self) -> None:
        self.ledger.tenants.limit("acme", {"documents": 0})
        assert self.accept(HighWater(1, 1, tenant=None), "acme") is Accepted.YES

    def test_who_was_held_up_is_remembered_a_while(self) -> None:
        assert self.ledger.tenants.limited() == {}
        for _ in range(2):
            self.accept(marks(documents=1), "acme")
        (since,) = self.ledger.tenants.limited().values()
        assert self.ledger.tenants.get("acme").limited_at == since
        assert 0 <= self.ledger.now() - since < 60

    def test_the_same_parcel_again_is_counted_once_also_at_the_limit(self) -> None:
        parcel = mixed(self.ticket, "p", "acme")
        for _ in range(2):
            assert self.ledger.accept(parcel, 0, marks(documents=1)) is Accepted.YES
        assert has(self.ledger) == {"acme": 1}


def test_no_number_of_producers_together_exceeds_a_limit(ledger: Ledger) -> None:
    def hand_over(_: int) -> int:
        ticket, taken = ledger.open_job("c"), 0
        for number in range(10):
            parcel = mixed(ticket, f"{ticket.job_id}.{number}", "acme")
            taken += ledger.accept(parcel, taken, marks(documents=25)) is Accepted.YES
        return taken

    with ThreadPoolExecutor(6) as producers:
        assert sum(producers.map(hand_over, range(6))) == 25
    assert has(ledger) == {"acme": 25}


#: What happens to a ledger: whose documents come in, or what becomes of the next parcel.
STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from([None, "acme", "bolt"]), min_size=1, max_size=4),
        st.sampled_from(["finish", "dead", "back", "silent", "split", "cancel", "erase acme", "erase bolt"]),
    ),
    max_size=25,
)


class World:
    """A ledger, and beside it what of each tenant's must be unfinished."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.count = 0

    def step(self, step: str | Sequence[str | None]) -> None:
        if not isinstance(step, str):
            ticket = self.ledger.open_job("c")
            self.ledger.accept(mixed(ticket, f"{ticket.job_id}.0", *step), 0, marks(documents=6))
            self.ledger.close_job(ticket.job_id)
        elif step.startswith("erase"):
            erase(self.ledger, step.removeprefix("erase "))
        elif step == "cancel":
            for job in self.ledger.jobs(2):
                self.ledger.cancel(job.job_id)
        elif claim := self.ledger.claim("m", LONG_S):
            self.work(step, claim)

    def work(self, step: str, claim: Claim) -> None:
        if step in ("finish", "dead"):
            self.ledger.finish(claim, verdict_of(claim.parcel, dead=int(step == "dead")))
        elif step == "back":
            self.ledger.release(claim, refund=False)
        elif step == "split":
            self.ledger.split(claim, claim.parcel.split(), attempts=1)
        else:
            lapse(self.ledger, claim.parcel.id)

    def check(self) -> None:
        works = {tenant: standing.work for tenant, standing in self.ledger.tenants.all().items()}
        assert all(work.documents <= 6 and min(work) > 0 for work in works.values())
        named = sum(work.documents for work in works.values())
        assert named <= self.ledger.load().documents

    def end(self) -> None:
        self.ledger.forget_expired()
        while claim := self.ledger.claim("m", LONG_S):
            self.ledger.finish(claim, verdict_of(claim.parcel))
        assert self.ledger.load().documents == 0
        assert has(self.ledger) == {}


@given(STEPS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_where_nothing_is_unfinished_nobody_has_any(steps: list[str | list[str | None]]) -> None:
    world = World(MemoryLedger())
    for step in steps:
        world.step(step)
        world.check()
    world.end()


@pytest.mark.server
def test_both_ledgers_count_the_same_of_everybody_at_every_step(redis_url: str) -> None:
    @given(STEPS)
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def alike(steps: list[str | list[str | None]]) -> None:
        with redis_ledger(redis_url) as ledger:
            worlds = World(MemoryLedger()), World(ledger)
            for step in steps:
                for world in worlds:
                    world.step(step)
                    world.check()
                assert Counter(has(worlds[0].ledger)) == Counter(has(worlds[1].ledger))
            for world in worlds:
                world.end()

    alike()
