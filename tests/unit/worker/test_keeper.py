"""The keeper: claims in work stay alive, heartbeats and duties go on whatever fails, a hung process is given up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gristmill.ledger import Claim, HighWater, MemoryLedger
from gristmill_schemas import Document, Parcel
from gristmill_schemas.errors import BrokerUnavailable
from gristmill_worker.pipeline.leases import EXIT_HUNG, Keeper
from waiting import eventually


class Moody(MemoryLedger):
    """A ledger that fails at renewals while `mood` holds an error."""

    mood: Exception | None = None
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
        model_digest="m",
        documents=(Document(id="a", text="t"),),
        version=1,
        enqueued_at=1,
    )
    ledger.accept(parcel, 0, HighWater(10, 10**6))
    claim = ledger.claim("m", 3600)
    assert isinstance(claim, Claim)
    return claim


MakeKeeper = Callable[..., Keeper]


@pytest.fixture
def make_keeper(ledger: Moody) -> Iterator[MakeKeeper]:
    with ExitStack() as closing:

        def make(lease_s: float = 0.04, **duties: Callable[[], None]) -> Keeper:
            keeper = Keeper(
                ledger, "w", lease_s, lambda: {"mood": "good"}, {name: (0.01, duty) for name, duty in duties.items()}
            )
            closing.callback(keeper.close)
            keeper.start()
            return keeper

        yield make


def test_a_claim_in_work_outlives_its_lease(ledger: Moody, claim: Claim, make_keeper: MakeKeeper) -> None:
    keeper = make_keeper(lease_s=5.0, beat=lambda: None)
    with keeper.holding(claim):
        assert keeper.held == 1
        ledger._parcels["p"].lease_end = 1.0
        eventually(lambda: ledger._parcels["p"].lease_end > ledger.now())
    assert keeper.held == 0


def test_a_finished_claim_is_renewed_no_more(ledger: Moody, claim: Claim, make_keeper: MakeKeeper) -> None:
    keeper = make_keeper()
    with keeper.holding(claim):
        pass
    ledger._parcels["p"].lease_end, before = 1.0, ledger.renewals
    eventually(lambda: ledger.renewals > before + 2)
    assert isinstance(ledger.claim("m", 3600), Claim)


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), RuntimeError("a bug")])
def test_it_goes_on_when_the_ledger_comes_back(ledger: Moody, make_keeper: MakeKeeper, error: Exception) -> None:
    looks: list[int] = []
    ledger.mood = error
    make_keeper(look=lambda: looks.append(1))
    eventually(lambda: len(looks) > 2)
    assert ledger.renewals == 0
    ledger.mood = None
    eventually(lambda: ledger.renewals > 0)
    eventually(lambda: ledger.workers() == {"w": {"mood": "good"}})


def test_a_duty_that_fails_takes_neither_leases_nor_other_duties_down(ledger: Moody, make_keeper: MakeKeeper) -> None:
    looks: list[int] = []

    def fail() -> None:
        raise RuntimeError("a bug")

    make_keeper(fails=fail, works=lambda: looks.append(1))
    eventually(lambda: len(looks) > 2 and ledger.renewals > 2)


def test_a_batch_that_hangs_ends_the_process() -> None:
    script = (
        "import time; from gristmill_worker.pipeline.leases import exit_if_hung; "
        "exit_if_hung(lambda: time.monotonic() - 11, 10)()"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == EXIT_HUNG


def test_a_batch_within_its_time_and_an_idle_model_do_not() -> None:
    script = (
        "import time; from gristmill_worker.pipeline.leases import exit_if_hung; "
        "exit_if_hung(time.monotonic, 10)(); exit_if_hung(lambda: None, 10)()"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
