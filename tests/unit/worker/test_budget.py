"""The budget: halved when memory runs out, grown back when it goes well, and never above what was calibrated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gristmill_worker.batching.budget import FIRST_PAUSE, Budget


def launch(budget: Budget, room: int) -> bool:
    """One full launch on a device with so much room; whether it fitted."""
    cost = budget.tokens
    if cost > room:
        budget.ran_out(cost)
        return False
    budget.went_well(cost)
    return True


def test_running_out_halves_what_failed() -> None:
    budget = Budget(1_000)
    budget.ran_out(800)
    assert budget.tokens == 400


def test_after_enough_full_launches_it_grows_back_to_what_was_calibrated() -> None:
    budget = Budget(1_024)
    budget.ran_out(1_024)
    seen = [budget.tokens]
    while budget.tokens < 1_024:
        assert launch(budget, room=10**9)
        seen.append(budget.tokens)
    assert seen == sorted(seen)
    assert FIRST_PAUSE < len(seen) <= 5 * FIRST_PAUSE


def test_small_launches_say_nothing_about_memory() -> None:
    budget = Budget(1_024)
    budget.ran_out(1_024)
    for _ in range(100 * FIRST_PAUSE):
        budget.went_well(256)
    assert budget.tokens == 512


def test_a_device_that_lost_its_memory_for_good_fails_ever_more_rarely() -> None:
    budget = Budget(65_536)
    failed = [number for number in range(20_000) if not launch(budget, room=40_000)]
    assert len(failed) < 20
    assert failed[-1] - failed[-2] > 50 * FIRST_PAUSE


def test_once_it_is_whole_again_new_trouble_starts_with_short_pauses() -> None:
    budget = Budget(1_000)
    for _ in range(2_000):
        launch(budget, room=600)
    for _ in range(20_000):
        launch(budget, room=10**9)
    budget.ran_out(1_000)
    for _ in range(FIRST_PAUSE):
        launch(budget, room=10**9)
    assert budget.tokens == 625


@given(st.integers(1, 10**6), st.lists(st.tuples(st.booleans(), st.integers(0, 2 * 10**6)), max_size=300))
def test_it_stays_between_one_token_and_the_calibrated_figure(
    calibrated: int, launches: list[tuple[bool, int]]
) -> None:
    budget = Budget(calibrated)
    for fitted, cost in launches:
        before = budget.tokens
        if fitted:
            budget.went_well(cost)
            assert before <= budget.tokens <= calibrated
        else:
            budget.ran_out(cost)
            assert budget.tokens < before or budget.tokens == 1
