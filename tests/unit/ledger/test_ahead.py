"""What is served before a job, told beforehand: the same in both ledgers, and what claims then give."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill.ledger import Ledger, MemoryLedger
from gristmill_schemas import Priority
from unit.ledger.test_fairness import enqueue, served


def told(ledger: Ledger, job: str) -> tuple[int, int, int, float]:
    before = ledger.before(job)
    assert before is not None
    return before.tokens, before.first, before.last, round(before.share, 4)


def test_one_tenant_beside_another_has_half_and_waits_for_as_much_as_it_has(ledger: Ledger) -> None:
    enqueue(ledger, [100] * 10, tenant="acme")
    mine = enqueue(ledger, [100] * 2, tenant="bolt")
    assert told(ledger, mine) == (200, 0, 200, 0.5)
    assert [parcel.job_id == mine for parcel in served(ledger, 4)] == [False, True, False, True]


def test_a_backlog_of_the_same_collection_is_not_all_before_a_small_job(ledger: Ledger) -> None:
    enqueue(ledger, [50] * 1000)
    mine = enqueue(ledger, [50])
    assert told(ledger, mine) == (50, 0, 50, 0.5)


def test_small_ones_beside_it_are_before_it_as_a_whole_and_large_ones_by_their_turns(ledger: Ledger) -> None:
    enqueue(ledger, [10] * 3, tenant="small")
    enqueue(ledger, [10] * 100, tenant="large")
    mine = enqueue(ledger, [10] * 20, tenant="mine")
    assert told(ledger, mine) == (200, 0, 30 + 200, round(1 / 3, 4))


def test_priorities_go_by_their_shares(ledger: Ledger) -> None:
    enqueue(ledger, [4096] * 100, priority=Priority.NORMAL)
    mine = enqueue(ledger, [4096] * 4, priority=Priority.LOW)
    tokens, first, last, share = told(ledger, mine)
    assert (tokens, first, last, share) == (4 * 4096, 0, 16 * 4096, 0.2)
    urgent = enqueue(ledger, [4096], priority=Priority.HIGH)
    assert told(ledger, urgent)[:3] == (4096, 0, 0)


def test_jobs_of_one_tenant_share_what_is_the_tenants(ledger: Ledger) -> None:
    enqueue(ledger, [10] * 50, tenant="other")
    enqueue(ledger, [10] * 50, tenant="mine")
    mine = enqueue(ledger, [10] * 10, tenant="mine")
    assert told(ledger, mine) == (100, 0, 100 + 200, 0.25)


def test_what_others_have_in_hand_is_before_it_and_what_it_has_itself_is_not(ledger: Ledger) -> None:
    enqueue(ledger, [70] * 2, tenant="acme")
    served(ledger, 2)
    mine = enqueue(ledger, [10] * 2, tenant="bolt")
    assert told(ledger, mine) == (20, 140, 140, 1.0)
    served(ledger, 1)
    assert told(ledger, mine) == (20, 140, 140, 1.0)
    served(ledger, 1)
    assert told(ledger, mine) == (20, 140, 140, 0.0), "all of it is in hand"


def test_what_is_paused_is_before_nobody_and_has_no_turn(ledger: Ledger) -> None:
    other = enqueue(ledger, [100] * 10, tenant="acme")
    mine = enqueue(ledger, [10] * 2, tenant="bolt")
    ledger.pause(other)
    assert told(ledger, mine) == (20, 0, 0, 1.0)
    ledger.pause(mine)
    assert told(ledger, mine) == (20, 0, 0, 0.0)
    ledger.resume(other)
    assert told(ledger, mine)[2] == 20, "as if it were resumed"


def test_of_a_job_that_is_done_or_unknown_nothing_is_told(ledger: Ledger) -> None:
    ticket = ledger.open_job("c")
    ledger.close_job(ticket.job_id)
    assert ledger.before("unknown") is None
    assert ledger.before(ticket.job_id) is None


#: Of each job how many parcels, of how many tokens, and whose.
WORLDS = st.lists(
    st.tuples(st.integers(1, 15), st.integers(2, 10), st.sampled_from(["a", "b", "c", None])), min_size=2, max_size=4
)


@given(WORLDS, st.integers(0, 20), st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_told_is_what_claims_then_give_but_for_a_parcel_of_each_that_has_turns(
    world: list[tuple[int, int, str | None]], before: int, data: st.DataObject
) -> None:
    ledger = MemoryLedger()
    jobs = [enqueue(ledger, [size] * count, tenant=tenant) for count, size, tenant in world]
    in_hand = served(ledger, before)
    mine = data.draw(st.sampled_from(jobs))
    beside = sum(parcel.tokens for parcel in in_hand if parcel.job_id != mine)
    standing = ledger.before(mine)
    given = served(ledger)
    own = [number for number, parcel in enumerate(given) if parcel.job_id == mine]
    if standing is None or not own:
        return
    assert standing.tokens == sum(parcel.tokens for parcel in [*in_hand, *given] if parcel.job_id == mine)
    for expected, until in ((standing.first, own[0]), (standing.last, own[-1])):
        really = beside + sum(parcel.tokens for parcel in given[:until] if parcel.job_id != mine)
        assert abs(expected - really) <= 10 * len(jobs) * 3
