"""When a lane takes one more query: by what it holds, how fast it was, and how long the first of them can wait."""

from __future__ import annotations

from gristmill_worker.process.queries.holding import Held, Holding


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def holding(pace_s: float | None = None, most: int = 32) -> tuple[Holding, Clock]:
    """Empty, of a lane that has answered one query in so many seconds."""
    clock = Clock()
    made = Holding(most, clock)
    if pace_s is not None:
        first = made.add(b"", 1_000)
        clock.now += pace_s
        made.remove(first, encoded=True)
    return made, clock


def fill(lane: Holding, waits_s: float, most: int = 100) -> list[Held]:
    """Take as long as it may."""
    taken: list[Held] = []
    while lane.may_take() and len(taken) < most:
        taken.append(lane.add(b"", waits_s))
    return taken


def test_a_lane_that_has_answered_nothing_yet_takes_one_query() -> None:
    lane, _ = holding()
    assert len(fill(lane, 10)) == 1


def test_a_fast_lane_takes_as_many_as_it_has_threads() -> None:
    lane, _ = holding(pace_s=0.01)
    assert len(fill(lane, 10)) == 32


def test_a_slow_lane_takes_only_what_it_answers_in_half_of_the_time() -> None:
    lane, _ = holding(pace_s=1)
    assert len(fill(lane, 10)) == 5


def test_a_lane_slower_than_any_query_waits_still_serves_one_at_a_time() -> None:
    lane, _ = holding(pace_s=100)
    assert len(fill(lane, 10)) == 1


def test_the_nearest_deadline_decides() -> None:
    lane, _ = holding(pace_s=0.1)
    fill(lane, 10, most=3)
    assert lane.may_take()
    lane.add(b"", 0.5)
    assert not lane.may_take()


def test_nothing_is_taken_behind_a_query_that_hangs() -> None:
    lane, clock = holding(pace_s=0.01)
    (first,) = fill(lane, 9, most=1)
    clock.now += 2.9
    assert lane.may_take()
    clock.now += 0.2
    assert not lane.may_take()
    lane.remove(first, encoded=True)
    assert lane.may_take()


def test_a_lane_that_slows_down_is_believed_at_once_and_one_that_speeds_up_after_a_while() -> None:
    lane, clock = holding(pace_s=0.01)
    (slow,) = fill(lane, 10, most=1)
    clock.now += 2
    lane.remove(slow, encoded=True)
    held = fill(lane, 10)
    assert len(held) < 5
    for _ in range(20):
        for each in held:
            clock.now += 0.01
            lane.remove(each, encoded=True)
        held = fill(lane, 10)
    assert len(held) == 32


def test_queries_that_were_not_encoded_tell_nothing_about_the_pace() -> None:
    lane, clock = holding(pace_s=0.01)
    (late,) = fill(lane, 10, most=1)
    clock.now += 5
    lane.remove(late, encoded=False)
    assert len(fill(lane, 10)) == 32


def test_a_request_of_many_texts_counts_as_many_queries() -> None:
    lane, _ = holding(pace_s=0.1)
    lane.add(b"x" * 200_000, 10)
    assert not lane.may_take()


def test_what_has_used_half_of_its_time_is_overdue_once() -> None:
    lane, clock = holding(pace_s=0.01)
    first, second = lane.add(b"", 4), lane.add(b"", 8)
    clock.now += 1.9
    assert lane.overdue() == []
    clock.now += 0.2
    assert lane.overdue() == [first]
    assert lane.overdue() == []
    clock.now += 2
    assert lane.overdue() == [second]
    assert len(lane) == 2, "it may still be answered from here"
