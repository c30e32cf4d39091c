"""Leases: claims in work stay alive whatever fails, and go back with their attempts when the process must end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gristmill.ledger import Claim, HighWater, MemoryLedger
from gristmill_schemas import Document, Parcel
from gristmill_schemas.errors import BrokerUnavailable
from gristmill_worker.pipeline.leases import Leases
from waiting import eventually

MODEL = "m"


class Moody(MemoryLedger):
    """A ledger that fails at renewals while `mood` holds an error."""

    mood: BaseException | None = None
    renewals = 0

    def renew(self, *args: object, **kwargs: object) -> None:
        if self.mood is not None:
            raise self.mood
        self.renewals += 1
        super().renew(*args, **kwargs)  # type: ignore[arg-type]  # passed on


@pytest.fixture
def ledger() -> Moody:
    return Moody()


@pytest.fixture
def claim(ledger: Moody) -> Claim:
    ticket = ledger.open_job("c")
    parcel = Parcel(
        id="p",
        job_id=ticket.job_id,
        collection="c",
        model_digest=MODEL,
        documents=(Document(id="a", text="t"),),
        version=1,
        enqueued_at=1,
    )
    ledger.accept(parcel, 0, HighWater(10, 10**6))
    return taken(ledger)


def taken(ledger: MemoryLedger) -> Claim:
    claim = ledger.claim(MODEL, 3600)
    assert claim is not None
    return claim


MakeLeases = Callable[..., Leases]


@pytest.fixture
def make_leases(ledger: Moody) -> Iterator[MakeLeases]:
    with ExitStack() as closing:

        def make(lease_s: float = 0.04, died: Callable[[str, BaseException], None] | None = None) -> Leases:
            leases = Leases(ledger, lease_s, died or (lambda name, error: None))
            closing.callback(leases.close)
            leases.start()
            return leases

        yield make


def lapse(ledger: MemoryLedger) -> None:
    ledger._parcels["p"].lease_end = 1.0


def test_a_claim_in_work_outlives_its_lease(ledger: Moody, claim: Claim, make_leases: MakeLeases) -> None:
    leases = make_leases(lease_s=1.0)
    with leases.holding(claim):
        assert leases.held == 1
        lapse(ledger)
        eventually(lambda: ledger._parcels["p"].lease_end > ledger.now())
    assert leases.held == 0


def test_a_finished_claim_is_renewed_no_more(ledger: Moody, claim: Claim, make_leases: MakeLeases) -> None:
    leases = make_leases()
    with leases.holding(claim):
        pass
    lapse(ledger)
    before = ledger.renewals
    eventually(lambda: ledger.renewals > before + 2)
    assert taken(ledger).token != claim.token


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), RuntimeError("a bug")])
def test_it_goes_on_when_the_ledger_comes_back(ledger: Moody, make_leases: MakeLeases, error: Exception) -> None:
    ledger.mood = error
    make_leases()
    ledger.mood = None
    eventually(lambda: ledger.renewals > 0)


def test_a_thread_that_dies_all_the_same_is_reported(ledger: Moody, claim: Claim, make_leases: MakeLeases) -> None:
    class Panic(BaseException):
        pass

    deaths: list[tuple[str, BaseException]] = []
    ledger.mood = Panic("no way on")
    leases = make_leases(died=lambda name, error: deaths.append((name, error)))
    with leases.holding(claim):
        eventually(lambda: deaths)
    ((name, error),) = deaths
    assert (name, str(error)) == ("gristmill-leases", "no way on")


def test_what_is_handed_back_has_its_attempt_again(ledger: Moody, claim: Claim, make_leases: MakeLeases) -> None:
    leases = make_leases()
    with leases.holding(claim):
        assert ledger.begin(claim)
        leases.hand_back()
        again = taken(ledger)
        assert (again.attempts, leases.held) == (1, 0)


def test_who_gives_back_himself_pays_what_his_error_asks_for_and_the_rest_is_refunded(
    ledger: Moody, claim: Claim, make_leases: MakeLeases
) -> None:
    leases = make_leases()
    with leases.holding(claim):
        assert ledger.begin(claim)
        settling = threading.Thread(target=leases.settle, args=(30.0,), daemon=True)
        settling.start()
        assert ledger.release(claim, refund=False, error="a suspect")
    settling.join(60)
    assert taken(ledger).attempts == 2


def test_an_excused_claim_costs_no_attempt_if_its_worker_then_dies(
    ledger: Moody, claim: Claim, make_leases: MakeLeases
) -> None:
    leases = make_leases(lease_s=3600)
    with leases.holding(claim):
        assert ledger.begin(claim)
        leases.excuse()
        lapse(ledger)
        assert taken(ledger).attempts == 1
