"""How soon a worker that took nothing looks again: Celery's loop sleeps for a second unless something wakes it."""

from __future__ import annotations

from typing import Any

from gristmill.ingest.broker import queue_name
from gristmill_worker.process.guard import Guard, guarded_transport


class Timer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    def __init__(self) -> None:
        self.timers: list[tuple[float, Timer]] = []

    def call_repeatedly(self, seconds: float, _: object) -> Timer:
        self.timers.append((seconds, Timer()))
        return self.timers[-1][1]


class Bare:
    """As much of kombu's transport as the guard stands before."""

    class Channel:
        pass

    def register_with_event_loop(self, connection: Any, loop: Loop) -> None:
        loop.timers.append((25.0, Timer()))


def test_the_loop_wakes_often_enough_for_a_device_that_has_some_tenths_of_a_second_left() -> None:
    guard: Any = Guard(["digest"], lambda queue: queue == queue_name("digest"), None)  # type: ignore[arg-type]
    transport: Any = guarded_transport(guard, Bare)  # type: ignore[arg-type]
    loop = Loop()
    transport().register_with_event_loop(None, loop)
    own, looks = loop.timers
    assert own[0] == 25.0
    assert looks[0] <= 0.1
    transport().register_with_event_loop(None, loop)
    assert [timer.cancelled for _, timer in loop.timers] == [False, True, False, False], (
        "one, after a lost connection too"
    )
