"""Descriptions of collections: read seldom, and yet never older than what a user did before enqueueing."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from gristmill import CollectionNotFound
from gristmill.ledger.clock import LedgerClock
from gristmill.store.collections import Collections
from gristmill_worker.pipeline.descriptions import GOOD_FOR_S, Descriptions

LONG_AGO = 1_000.0


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = 2_000.0

    def now(self) -> float:
        return self.time


class Store:
    """Collections that count how often they are asked; what each is, is the answer's number."""

    def __init__(self) -> None:
        self.asked = 0
        self.there = True

    def get(self, name: str) -> str:
        self.asked += 1
        if not self.there:
            raise CollectionNotFound(f"no {name}", collection=name)
        return f"{name} {self.asked}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def descriptions(store: Store, clock: Clock) -> Descriptions:
    return Descriptions(cast("Collections", store), cast("LedgerClock", clock))


@pytest.fixture
def told(descriptions: Descriptions) -> Callable[[str, float], object]:
    return descriptions.get


def test_parcels_that_follow_closely_share_one_read(told: Callable[[str, float], object], clock: Clock) -> None:
    heard = []
    for _ in range(4):
        heard.append(told("a", LONG_AGO))
        clock.time += GOOD_FOR_S / 5
    assert heard == ["a 1"] * 4
    assert told("b", LONG_AGO) == "b 2"
    clock.time += GOOD_FOR_S
    assert told("a", LONG_AGO) == "a 3"


def test_a_job_that_was_opened_after_the_read_is_not_told_of_what_was_before(
    told: Callable[[str, float], object], clock: Clock
) -> None:
    told("a", LONG_AGO)
    for opened_at in (clock.time - GOOD_FOR_S / 2, clock.time, clock.time + 60.0):  # another machine's clock may be off
        before = told("a", LONG_AGO)
        assert told("a", opened_at) != before


def test_a_clock_that_is_set_back_does_not_keep_a_description_for_ever(
    told: Callable[[str, float], object], clock: Clock
) -> None:
    assert told("a", LONG_AGO) == "a 1"
    clock.time -= 100.0
    assert told("a", LONG_AGO) == "a 2"


def test_what_was_not_found_or_was_forgotten_is_asked_for_again(
    descriptions: Descriptions, told: Callable[[str, float], object], store: Store
) -> None:
    told("a", LONG_AGO)
    descriptions.forget("a")
    store.there = False
    for _ in range(2):
        with pytest.raises(CollectionNotFound):
            told("a", LONG_AGO)
    store.there = True
    assert told("a", LONG_AGO) == "a 4"
