"""Patience: calls are repeated while their server is away, as long as it asks within reason, and visibly."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import tenacity

from gristmill_schemas.errors import BrokerUnavailable, ShuttingDown, StoreRefused, StoreUnavailable
from gristmill_worker.waiting.patience import Patience, _AskedOrGrowing
from waiting import eventually


class Away:
    """A server that fails so often, then answers."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.left = times
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "answer"


def test_an_answer_is_passed_on() -> None:
    assert Patience(threading.Event()).call(lambda: 7) == 7


@pytest.mark.parametrize("kind", [StoreUnavailable, BrokerUnavailable])
def test_a_server_that_comes_back_answers(kind: type[StoreUnavailable]) -> None:
    server = Away(kind("away", retry_after_s=0.001), times=3)
    patience = Patience(threading.Event())
    assert patience.call(server) == "answer"
    assert server.calls == 4
    assert patience.waiting_for is None


def test_a_refusal_is_not_asked_again() -> None:
    server = Away(StoreRefused("no"), times=1)
    with pytest.raises(StoreRefused):
        Patience(threading.Event()).call(server)
    assert server.calls == 1


def test_it_says_what_it_waits_for_and_draining_ends_the_wait() -> None:
    draining, caught = threading.Event(), []
    patience = Patience(draining)

    def work() -> None:
        try:
            patience.call(Away(StoreUnavailable("Qdrant is away", retry_after_s=60), times=10**6))
        except ShuttingDown as error:
            caught.append(str(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    eventually(lambda: patience.waiting_for == "Qdrant is away")
    draining.set()
    thread.join(60)
    assert caught == ["draining while waiting: Qdrant is away"]
    assert patience.waiting_for is None


def test_a_draining_worker_still_gets_answers_from_a_server_that_is_there() -> None:
    draining = threading.Event()
    draining.set()
    assert Patience(draining).call(lambda: 7) == 7


def waits_after(error: Exception, attempt: int) -> float:
    state: Any = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, None))
    return _AskedOrGrowing()(state)


def test_retry_after_is_honoured_within_a_minute() -> None:
    assert waits_after(StoreUnavailable("slow down", retry_after_s=7), 1) == 7
    assert waits_after(StoreUnavailable("slow down", retry_after_s=86_400), 1) == 60


def test_without_it_waits_grow_and_stay_bounded() -> None:
    error = StoreUnavailable("away")
    assert max(waits_after(error, 1) for _ in range(100)) <= 0.1
    longest = [waits_after(error, 100) for _ in range(200)]
    assert 3 < max(longest) <= 5
    assert min(longest) < 2, "jitter, so that many workers do not come back as one"
