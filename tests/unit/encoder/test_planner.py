"""Laws of the planner, for any lengths and any budget."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_worker.batching.planner import cost, padding_fraction, plan, shares, spread, window

lengths_of = st.lists(st.integers(0, 2_000), max_size=200)
budgets = st.integers(1, 4_096)
windows = st.none() | st.integers(1, 64)


@given(st.integers(0, 200))
def test_short_and_long_batches_are_spread_evenly_and_none_is_lost(count: int) -> None:
    order = spread(range(count))
    assert sorted(order) == list(range(count))
    assert order[:1] == list(range(count))[:1], "what needs most memory goes first"
    for done in range(4, count):
        assert abs(sum(order[:done]) / done - (count - 1) / 2) <= 0.3 * count


@given(lengths_of, budgets, windows, st.booleans())
def test_every_text_is_in_exactly_one_group(lengths: list[int], budget: int, window: int | None, padded: bool) -> None:
    groups = plan(lengths, budget, window=window, padded=padded)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(groups)


@given(lengths_of, budgets, windows)
def test_no_group_exceeds_the_budget_unless_it_is_one_text(lengths: list[int], budget: int, window: int | None) -> None:
    for group in plan(lengths, budget, window=window):
        assert len(group) == 1 or sum(lengths[index] for index in group) <= budget


@given(lengths_of, budgets, windows)
def test_padded_groups_count_their_padding(lengths: list[int], budget: int, window: int | None) -> None:
    for group in plan(lengths, budget, window=window, padded=True):
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= budget


@given(lengths_of, budgets)
def test_texts_longer_than_the_budget_go_alone(lengths: list[int], budget: int) -> None:
    for group in plan(lengths, budget):
        assert len(group) == 1 or all(lengths[index] <= budget for index in group)


@given(lengths_of, budgets)
def test_lengths_fall_from_group_to_group(lengths: list[int], budget: int) -> None:
    order = [lengths[index] for group in plan(lengths, budget) for index in group]
    assert order == sorted(lengths, reverse=True)


@given(lengths_of, budgets, st.integers(1, 64))
def test_no_text_leaves_its_window(lengths: list[int], budget: int, window: int) -> None:
    for group in plan(lengths, budget, window=window):
        assert len({index // window for index in group}) == 1


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=200), budgets)
def test_neighbouring_groups_could_not_have_been_one(lengths: list[int], budget: int) -> None:
    groups = plan(lengths, budget)
    for group, following in pairwise(groups):
        assert sum(lengths[index] for index in [*group, following[0]]) > budget


@given(lengths_of, budgets, st.integers(1, 40), st.booleans())
def test_no_group_exceeds_the_number_of_texts(lengths: list[int], budget: int, texts: int, padded: bool) -> None:
    groups = plan(lengths, budget, texts=texts, padded=padded)
    assert all(len(group) <= texts for group in groups)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))


@given(lengths_of, budgets, st.booleans())
def test_what_a_group_costs_is_within_the_budget_unless_it_is_one_text(
    lengths: list[int], budget: int, padded: bool
) -> None:
    for group in plan(lengths, budget, padded=padded):
        assert len(group) == 1 or cost([lengths[index] for index in group], padded=padded) <= budget


def test_padding_is_counted() -> None:
    assert padding_fraction([[0, 1]], [10, 5]) == pytest.approx(0.25)
    assert padding_fraction([], []) == 0.0


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="budget: expected at least 1"):
        plan([1], 0)


def test_batches_of_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="texts: expected at least 1"):
        plan([1], 1, texts=0)


@given(lengths_of, budgets, st.integers(1, 8))
def test_shares_hold_every_text_once_and_none_exceeds_the_budget(lengths: list[int], budget: int, at_once: int) -> None:
    groups = shares(lengths, budget, at_once)
    if groups is None:
        assert at_once == 1 or sum(lengths) > 4 * at_once * budget or not sum(lengths)
        return
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(groups)
    assert all(len(group) == 1 or sum(lengths[index] for index in group) <= budget for group in groups)


@given(st.lists(st.integers(1, 200), min_size=8, max_size=200), st.integers(200, 4_096), st.integers(2, 8))
def test_shares_end_about_together(lengths: list[int], budget: int, at_once: int) -> None:
    groups = shares(lengths, budget, at_once)
    if groups is None or len(groups) == 1:
        assert groups is None or sum(lengths) < 64 * at_once
        return
    assert len(groups) % at_once == 0 or len(groups) == len(lengths)
    tokens = [sum(lengths[index] for index in group) for group in groups]
    assert max(tokens) - min(tokens) <= max(lengths)


@given(lengths_of, budgets, st.booleans())
def test_windows_hold_every_text_once_in_the_order_in_which_they_came(
    lengths: list[int], budget: int, padded: bool
) -> None:
    left, taken = list(lengths), list[int]()
    while left:
        count = window(left, budget, padded=padded)
        assert count >= 1, "it must end"
        taken += left[:count]
        del left[:count]
    assert taken == lengths, "who came earlier is in no later window"


@given(st.lists(st.integers(1, 512), min_size=1, max_size=2_000), st.integers(4_096, 70_000))
def test_no_batch_of_a_window_is_nearly_empty_while_more_wait(lengths: list[int], budget: int) -> None:
    count = window(lengths, budget)
    if count < len(lengths):
        assert all(sum(lengths[:count][each] for each in group) > budget / 2 for group in plan(lengths[:count], budget))
