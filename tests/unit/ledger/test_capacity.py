"""What the ledger knows of workers' rates, and the seconds of work that autoscalers see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gristmill.ingest.queue import queue_report
from gristmill.ingest.scaling import answer_scale
from gristmill.ledger import Ledger
from gristmill.ledger.capacity import MOST_SECONDS, seconds_key
from gristmill_schemas import Deletion, EncoderInfo, Pooling
from unit.ledger.parcels import LONG_S, ROOMY, parcel_of, redis_ledger, verdict_of
from waiting import eventually

#: Of a worker where none has measured.
GUESS = 10.0


def serving(*rates: float | None, state: str = "ready", model: str = "m") -> dict[str, Any]:
    """A worker's status, with these rates of its engines."""
    return {
        "state": state,
        "engines": [{"model": model, "model_digest": model, "tokens_per_s": rate} for rate in rates],
    }


LOADING = {"state": "loading", "engines": [], "loading": [{"model": "m", "model_digest": "m"}]}


def test_a_rate_is_remembered_once_its_worker_is_gone(ledger: Ledger) -> None:
    assert ledger.rate("m") is None
    ledger.heartbeat("w", serving(None), ttl_s=LONG_S)
    assert ledger.rate("m") is None
    ledger.heartbeat("w", serving(250.5), ttl_s=LONG_S)
    ledger.heartbeat("w", serving(None), ttl_s=0.001)
    assert ledger.rate("m") == 250.5
    assert ledger.rate("another") is None


NONSENSE: list[Any] = ["x", -1, 0, float("nan"), [], {}]


@pytest.mark.parametrize(
    "status",
    [
        {"engines": [{"model_digest": "m", "tokens_per_s": rate} for rate in NONSENSE]},
        {"engines": [{"tokens_per_s": 5}], "loading": "m"},
        {"engines": [{"model_digest": 7, "tokens_per_s": 5}], "loading": [5, {}, {"model_digest": None}]},
        {},
    ],
)
def test_a_heartbeat_that_says_nonsense_is_a_sign_of_life_all_the_same(ledger: Ledger, status: dict[str, Any]) -> None:
    ledger.heartbeat("w", status, ttl_s=LONG_S)
    assert list(ledger.workers()) == ["w"]
    assert (ledger.rate("m"), ledger.work_seconds("m")) == (None, 0)


def test_seconds_of_work_are_tokens_by_the_remembered_rate(ledger: Ledger) -> None:
    ledger.heartbeat("w", serving(50.0), ttl_s=LONG_S)
    assert ledger.work_seconds("m") == 0
    enqueued(ledger, "x" * 400, 64)
    assert ledger.work_seconds("m") == pytest.approx(6400 / 50, abs=2)
    ledger.heartbeat("w", serving(640.0), ttl_s=LONG_S)
    assert ledger.work_seconds("m") == pytest.approx(10, abs=1)
    finish_one(ledger)
    assert ledger.work_seconds("m") == 0


@pytest.mark.parametrize("last", [0, 1])
def test_seconds_of_work_are_by_all_living_workers_whoever_spoke_last(ledger: Ledger, last: int) -> None:
    ledger.announce(INFO)
    enqueued(ledger, "x" * 400, 64)
    rates = (100.0, 300.0)
    for number in (0, 1, last):
        ledger.heartbeat(f"w{number}", serving(rates[number]), ttl_s=LONG_S)
    (queue,) = queue_report(ledger).models
    assert (queue.workers, queue.tokens_per_s) == (2, 400.0)
    assert queue.seconds is not None
    assert ledger.rate("m") == 200.0
    assert ledger.work_seconds("m") == pytest.approx(2 * queue.seconds, abs=1), "of one worker, for autoscalers"
    assert ledger.work_seconds("m") == pytest.approx(6400 / 200, abs=2)


def test_a_rate_counts_until_its_worker_is_not_heard_of_any_more(ledger: Ledger) -> None:
    ledger.heartbeat("fast", serving(900.0), ttl_s=0.001)
    ledger.heartbeat("slow", serving(100.0), ttl_s=LONG_S)
    eventually(lambda: list(ledger.workers()) == ["slow"])
    ledger.heartbeat("slow", serving(100.0), ttl_s=LONG_S)
    assert ledger.rate("m") == 100.0


@pytest.mark.server
class TestTheList:
    """As an autoscaler sees it: it asks for nothing but the length."""

    @pytest.fixture(autouse=True)
    def opened(self, redis_url: str) -> Iterator[None]:
        with redis_ledger(redis_url, scale_tokens_per_s=GUESS, key_prefix="mill") as self.ledger:
            yield

    def length(self, model: str = "m") -> int:
        return self.ledger._redis.llen(seconds_key("mill", model))

    def test_work_is_seen_as_soon_as_it_is_accepted_and_nobody_lives(self) -> None:
        assert self.length() == 0
        enqueued(self.ledger, "x" * 400, 4)
        assert self.length() == pytest.approx(400 / GUESS, abs=2)

    def test_the_least_work_is_a_second(self) -> None:
        enqueued(self.ledger, "x", 1)
        assert self.length() == 1

    def test_deletions_are_work_too(self) -> None:
        ticket = self.ledger.open_job("c")
        parcel = parcel_of(ticket).model_copy(update={"documents": (), "deletions": (Deletion(id="gone"),)})
        self.ledger.accept(parcel, 0, ROOMY)
        assert self.length() == 1

    def test_a_backlog_of_a_year_is_an_hour_long(self) -> None:
        enqueued(self.ledger, "x" * 40_000, 64)
        assert self.length() == MOST_SECONDS == 3600

    def test_what_is_in_hand_is_work_until_it_is_finished(self) -> None:
        enqueued(self.ledger, "x" * 400, 4)
        claim = self.ledger.claim("m", LONG_S)
        assert claim is not None
        assert self.length() > 0, "a worker that has it all in hand is not to be sent away"
        self.ledger.begin(claim)
        self.ledger.finish(claim, verdict_of(claim.parcel))
        assert self.length() == 0
        assert not self.ledger._redis.exists(seconds_key("mill", "m"))

    def test_what_goes_to_another_model_is_its_work(self) -> None:
        enqueued(self.ledger, "x" * 400, 4)
        before, claim = self.length(), self.ledger.claim("m", LONG_S)
        assert claim is not None
        self.ledger.reroute(claim, claim.parcel.model_copy(update={"model_digest": "other"}))
        assert (self.length(), self.length("other")) == (0, before)

    def test_while_a_worker_loads_the_list_grows_and_does_not_shrink(self) -> None:
        enqueued(self.ledger, "x" * 400, 4)
        called_for = self.length()
        self.ledger.heartbeat("slow", LOADING, ttl_s=LONG_S)
        enqueued(self.ledger, "x" * 400, 4)
        finish_one(self.ledger)
        finish_one(self.ledger)
        assert self.length() == pytest.approx(2 * called_for, abs=1), "it was called, so it is not sent away"
        self.ledger.heartbeat("slow", serving(None), ttl_s=LONG_S)
        assert self.length() == 0

    def test_a_worker_that_dies_while_it_loads_holds_nothing_up(self) -> None:
        enqueued(self.ledger, "x" * 400, 4)
        self.ledger.heartbeat("dying", LOADING, ttl_s=0.001)
        eventually(lambda: not self.ledger.workers())
        finish_one(self.ledger)
        assert self.length() == 0

    def test_the_answer_at_scale_is_the_length_of_the_list(self) -> None:
        self.ledger.announce(INFO)
        enqueued(self.ledger, "x" * 400, 4)
        self.ledger.heartbeat("slow", LOADING, ttl_s=LONG_S)
        status, told = answer_scale(self.ledger, "mill", "the/model")
        assert (status, told["seconds"], told["loading"], told["workers"]) == (200, self.length(), 1, 0)
        assert self.ledger._redis.llen(told["list"]) == told["seconds"]
        status, told = answer_scale(self.ledger, "mill", None)
        assert (status, told["seconds"], [each["model"] for each in told["models"]]) == (
            200,
            self.length(),
            ["the/model"],
        )

    def test_a_model_that_nobody_has_announced_is_no_zero(self) -> None:
        status, told = answer_scale(self.ledger, "mill", "mistyped")
        assert status == 404
        assert "mistyped" in told["error"]
        assert "gristmill worker --model mistyped" in told["error"]

    def test_a_known_model_without_work_is_zero(self) -> None:
        self.ledger.announce(INFO)
        status, told = answer_scale(self.ledger, "mill", "m")
        assert (status, told["seconds"]) == (200, 0)


INFO = EncoderInfo(model="the/model", digest="m", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9)


def enqueued(ledger: Ledger, text: str, documents: int) -> None:
    ticket = ledger.open_job("c")
    ledger.accept(parcel_of(ticket, f"{ticket.job_id}.0", documents, text=text), 0, ROOMY)


def finish_one(ledger: Ledger) -> None:
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.begin(claim)
    ledger.finish(claim, verdict_of(claim.parcel))
