"""Retry-After is told by the clock of the server that asks."""

import pytest

from gristmill.retry_after import retry_after_s

NEW_YEAR = "Sat, 01 Jan 2000 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "Sat, 01 Jan 2000 00:00:30 GMT", "date": NEW_YEAR}, 30),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:30 GMT", "date": NEW_YEAR}, 0),
        ({"retry-after": NEW_YEAR}, 0),
        ({"retry-after": NEW_YEAR, "date": "a while ago"}, 0),
        ({"retry-after": "soon", "date": NEW_YEAR}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_date_counts_from_the_answers_own_date_whatever_our_clock_says(
    headers: dict[str, str] | None, expected: float | None
) -> None:
    assert retry_after_s(headers) == expected
