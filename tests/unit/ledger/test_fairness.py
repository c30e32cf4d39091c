"""Whose parcel is next: priorities, tenants and jobs share what workers do by tokens, in both ledgers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.ledger import Ledger, MemoryLedger
from gristmill.ledger.order.fair import FairQueue, path_of
from gristmill_schemas import Parcel, Priority
from unit.ledger.parcels import LONG_S, ROOMY, parcel_of


def enqueue(
    ledger: Ledger,
    sizes: Sequence[int],
    *,
    tenant: str | None = None,
    priority: Priority = Priority.NORMAL,
    collection: str = "c",
) -> str:
    """A job of so many parcels, of so many tokens each; returns its id."""
    ticket = ledger.open_job(collection, tenant=tenant, priority=priority)
    for number, tokens in enumerate(sizes):
        # The document's number and a blank come behind the text.
        text = "x" * (4 * tokens - 2)
        name = f"{ticket.job_id}.{number}"
        parcel = parcel_of(ticket, name, 1, text=text, tenant=tenant, collection=collection)
        assert parcel.tokens == tokens
        ledger.accept(parcel, number, ROOMY)
    return ticket.job_id


def served(ledger: Ledger, count: int = 10_000) -> list[Parcel]:
    """What the next claims are given, so many at most."""
    found: list[Parcel] = []
    while len(found) < count and (claim := ledger.claim("m", LONG_S)):
        found.append(claim.parcel)
    return found


def tokens_of(parcels: Sequence[Parcel]) -> Counter[str]:
    """By job."""
    found: Counter[str] = Counter()
    for parcel in parcels:
        found[parcel.job_id] += parcel.tokens
    return found


def test_a_small_job_behind_a_backlog_of_its_own_collection_is_next_but_one(ledger: Ledger) -> None:
    enqueue(ledger, [50] * 100)
    served(ledger, 20)
    small = enqueue(ledger, [10, 10])
    assert [parcel.job_id for parcel in served(ledger, 5)].count(small) == 2


def test_a_job_of_high_priority_is_next(ledger: Ledger) -> None:
    enqueue(ledger, [50] * 20)
    served(ledger, 5)
    urgent = enqueue(ledger, [10] * 3, priority=Priority.HIGH)
    assert [parcel.job_id for parcel in served(ledger, 3)] == [urgent] * 3


def test_low_priority_waits_but_does_not_starve(ledger: Ledger) -> None:
    jobs = {
        each: enqueue(ledger, [4096] * 100, priority=each) for each in (Priority.LOW, Priority.NORMAL, Priority.HIGH)
    }
    assert tokens_of(served(ledger, 16)) == {jobs[Priority.HIGH]: 65536}, "as much goes at once"
    found = tokens_of(served(ledger, 84))
    assert [round(found[jobs[each]] / 16384) for each in Priority] == [16, 4, 1]
    assert len(served(ledger)) == 200, "and everybody is served in the end"


def test_urgent_jobs_one_after_the_other_do_not_starve_the_others(ledger: Ledger) -> None:
    backlog = enqueue(ledger, [4096] * 20)
    found: Counter[str] = Counter()
    for _ in range(60):
        enqueue(ledger, [4096], priority=Priority.HIGH)
        found += tokens_of(served(ledger, 1))
    assert 7 <= found[backlog] / 4096 <= 12, "a fifth of what came after the first 65,536 tokens"


def test_tenants_share_by_tokens_whatever_the_size_and_number_of_their_jobs(ledger: Ledger) -> None:
    for _ in range(5):
        enqueue(ledger, [100] * 20, tenant="many")
    one = enqueue(ledger, [10] * 400, tenant="one")
    given_to = tokens_of(served(ledger, 110))
    assert abs(given_to[one] - (given_to.total() - given_to[one])) <= 110


def test_who_comes_again_and_again_does_not_come_before_those_who_wait(ledger: Ledger) -> None:
    backlog = enqueue(ledger, [10] * 40, tenant="patient")
    given_to: Counter[str | None] = Counter()
    for _ in range(20):
        enqueue(ledger, [10], tenant="again")
        given_to.update(parcel.tenant for parcel in served(ledger, 1))
    assert given_to["patient"] >= 9, given_to
    assert backlog


def test_new_jobs_without_end_do_not_starve_an_old_one_of_the_same_tenant(ledger: Ledger) -> None:
    old = enqueue(ledger, [10] * 5)
    given_to: list[str] = []
    for _ in range(40):
        enqueue(ledger, [10])
        enqueue(ledger, [10])
        given_to += [parcel.job_id for parcel in served(ledger, 1)]
    assert given_to.count(old) >= 2


def test_a_split_parcel_and_a_rerouted_one_stay_as_urgent_as_their_job(ledger: Ledger) -> None:
    urgent = ledger.open_job("c", priority=Priority.HIGH)
    ledger.accept(parcel_of(urgent, "u", 2), 0, ROOMY)
    enqueue(ledger, [10] * 5)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.split(claim, claim.parcel.split(), attempts=1)
    part = ledger.claim("m", LONG_S)
    assert part is not None
    assert part.parcel.id == "u.0"
    ledger.reroute(part, part.parcel.model_copy(update={"model_digest": "n"}))
    assert [parcel.id for parcel in served(ledger, 1)] == ["u.1"]
    assert [report.priority for report in ledger.jobs(10)] == [Priority.NORMAL, Priority.HIGH]
    assert [job.priority for job in ledger.queued_jobs("n", 10)] == [Priority.HIGH]


def test_nothing_of_the_order_is_kept_once_nothing_waits(ledger: Ledger) -> None:
    for tenant in ("a", "b", None):
        enqueue(ledger, [10, 20], tenant=tenant)
    assert len(served(ledger)) == 6
    if isinstance(ledger, MemoryLedger):
        assert not ledger._lines["m"]._fair._nodes
    else:
        keys = [key.decode().split(":")[1] for key in ledger._redis.scan_iter(ledger._key("*"))]  # type: ignore[attr-defined]
        assert not {"fair", "spent", "virtual", "lines", "later", "waiting"} & set(keys)


@given(st.lists(st.lists(st.integers(1, 1000), min_size=30, max_size=60), min_size=2, max_size=4))
def test_two_that_always_have_work_never_differ_by_more_than_a_parcel_of_each(sizes: list[list[int]]) -> None:
    fair = FairQueue()
    paths = [path_of(Priority.NORMAL, f"t{n}", "c", f"{n}") for n, _ in enumerate(sizes)]
    for path in paths:
        fair.enter(path)
    given_to = [0] * len(sizes)
    left = [list(each) for each in sizes]
    most = [max(each) for each in sizes]
    while all(left) and (leading := fair.leading()):
        which = paths.index(leading)
        tokens = left[which].pop()
        fair.charge(leading, tokens)
        given_to[which] += tokens
        for one in range(len(sizes)):
            for other in range(one):
                assert abs(given_to[one] - given_to[other]) <= most[one] + most[other]


@pytest.mark.parametrize("priority", list(Priority))
def test_a_backlog_loses_nothing_to_those_who_pass_it(ledger: Ledger, priority: Priority) -> None:
    backlog = enqueue(ledger, [5] * 30)
    found: list[Parcel] = []
    for _ in range(5):
        enqueue(ledger, [1], tenant="t", priority=priority)
        found += served(ledger, 4)
    found += served(ledger)
    assert [parcel.job_id for parcel in found].count(backlog) == 30
    assert len({parcel.id for parcel in found}) == len(found) == 35
