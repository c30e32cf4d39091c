"""What a token costs, from timed requests: exact where they follow the rule, and not misled where one does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.ingest.estimating.pace import Timed, tokens_per_s

FIXED = st.floats(0, 5)
PER_TOKEN = st.floats(1e-6, 0.05)
#: As a sample's requests grow: doubling, and then as large as they get.
GROWING = [64, 128, 256, 512, 1024, 1024, 1024]


def timed(sizes: list[int], fixed: float, per_token: float) -> list[Timed]:
    return [Timed(each, fixed + per_token * each) for each in sizes]


@given(
    sizes=st.lists(st.integers(1, 100_000), min_size=2, max_size=12).filter(lambda found: max(found) >= 2 * min(found)),
    fixed=FIXED,
    per_token=PER_TOKEN,
)
def test_what_each_request_costs_beside_its_tokens_is_told_apart(
    sizes: list[int], fixed: float, per_token: float
) -> None:
    large = [each for each in sizes if each * 16 >= max(sizes)]
    if max(large) < 2 * min(large):
        large = sizes = [*sizes, max(sizes) // 2, max(sizes)]
    assert tokens_per_s(timed(sizes, fixed, per_token)) == pytest.approx(1 / per_token, rel=1e-3)


@given(FIXED, PER_TOKEN, st.sampled_from(range(len(GROWING))), st.floats(1, 100))
def test_one_request_that_was_held_up_misleads_nobody(fixed: float, per_token: float, slow: int, by: float) -> None:
    requests = timed(GROWING, fixed, per_token)
    requests[slow] = Timed(requests[slow].tokens, requests[slow].seconds * by)
    assert tokens_per_s(requests) == pytest.approx(1 / per_token, rel=1e-3)


def test_small_requests_that_leave_a_device_half_empty_say_nothing() -> None:
    launch_bound = [Timed(tokens, 0.008) for tokens in (20, 40, 80, 160, 320)]
    full = timed([4_000, 8_000, 16_000, 32_000, 32_000], 0.008, 1e-5)
    assert tokens_per_s([*launch_bound, *full]) == pytest.approx(1e5)


@pytest.mark.parametrize("requests", [[Timed(100, 2.0)], [Timed(100, 2.0), Timed(110, 2.2), Timed(90, 1.8)]])
def test_requests_of_one_size_tell_what_they_reached(requests: list[Timed]) -> None:
    assert tokens_per_s(requests) == pytest.approx(50)


def test_where_larger_requests_were_quicker_what_was_reached_is_told() -> None:
    assert tokens_per_s([Timed(10, 0.4), Timed(1000, 0.2)]) == pytest.approx(5000)


def test_there_is_no_rate_of_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        tokens_per_s([])
