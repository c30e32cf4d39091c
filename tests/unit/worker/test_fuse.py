"""The fuse: single bad documents are buried, a row of equal deaths buries nobody until something is stored."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_schemas.limits import MAX_PARCEL_DOCUMENTS
from gristmill_worker.waiting.fuse import Fuse
from gristmill_worker.waiting.notices import Notices
from waiting import eventually


def test_a_single_death_stands_once_its_trial_is_over() -> None:
    assert Fuse(Notices(), trial_s=0.0).stands("EncodingFailed", 1, "bad")


def test_a_death_stands_at_once_when_something_is_stored_meanwhile() -> None:
    fuse, verdicts = Fuse(Notices(), trial_s=600.0), []  # type: tuple[Fuse, list[bool]]
    thread = threading.Thread(target=lambda: verdicts.append(fuse.stands("EncodingFailed", 1, "bad")), daemon=True)
    thread.start()
    eventually(lambda: fuse._run == 1)
    fuse.stored()
    thread.join(60)
    assert verdicts == [True]


def test_more_deaths_in_one_parcel_than_the_mark_stand_when_something_is_stored_meanwhile() -> None:
    fuse, verdicts = Fuse(Notices(), most_deaths=100, trial_s=600.0), []  # type: tuple[Fuse, list[bool]]
    thread = threading.Thread(target=lambda: verdicts.append(fuse.stands("EncodingFailed", 256, "bad")), daemon=True)
    thread.start()
    eventually(lambda: fuse._run == 256)
    fuse.stored()
    thread.join(60)
    assert verdicts == [True]


def test_a_row_of_equal_deaths_buries_nobody_and_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill_worker.waiting.fuse._FIRST_REST_S", 3600.0)
    notices = Notices()
    fuse, verdicts = Fuse(notices, most_deaths=100, trial_s=600.0), []  # type: tuple[Fuse, list[bool]]
    threads = [
        threading.Thread(target=lambda: verdicts.append(fuse.stands("StoreRefused", 60, "wrong size")), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert verdicts == [False] * 4, "those on trial are let go too"
    (text,) = notices.all()
    assert "StoreRefused: wrong size" in text
    assert "address" in text
    assert fuse.resting
    fuse.stored()
    assert (fuse.blown, fuse.resting, notices.all()) == (False, False, [])


def test_a_blown_fuse_buries_nobody_of_another_kind_either() -> None:
    fuse = Fuse(Notices(), most_deaths=10, trial_s=0.0)
    assert not fuse.stands("StoreRefused", 10, "no")
    assert not fuse.stands("EncodingFailed", 1, "bad")


@given(st.lists(st.one_of(st.none(), st.integers(1, MAX_PARCEL_DOCUMENTS)), max_size=40))
def test_nobody_is_buried_beyond_the_mark_without_a_success(events: list[int | None]) -> None:
    """None is a success, a number that many equal deaths."""
    fuse, since = Fuse(Notices(), most_deaths=100, trial_s=0.0), 0
    for event in events:
        if event is None:
            fuse.stored()
            since = 0
        else:
            stands = fuse.stands("E", event, "no")
            assert stands == (since + event < 100)
            since = since + event if stands else 100
