"""Bounds of numbers and of dates: `{"gte": 2020, "lt": 2024}`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from gristmill.search.filters.values import above, below, day
from gristmill_schemas.plain import native, with_zone
from gristmill_schemas.validation import shown

BOUNDS = ("gt", "gte", "lt", "lte")
#: Bounds from which on numbers are meant, and up to which.
_FROM = ("gt", "gte")
#: How ISO dates without a time are long.
_DATE_ONLY = 10


def in_range(path: str, bounds: Mapping[str, Any]) -> models.FieldCondition:
    """Numbers or dates within bounds. A date is all of its day: after it is the next day, up to it includes it.

    Raises:
        ValueError: bounds of two kinds, of none that has an order, or with nothing in between.
    """
    held = {name: native(bound, name) for name, bound in bounds.items()}
    numbers = {name: number for name, bound in held.items() if (number := _number(name, bound)) is not None}
    if len(numbers) == len(held):
        _require_room(held, numbers)
        edges = {name: below(edge) if name in ("gte", "lt") else above(edge) for name, edge in numbers.items()}
        return models.FieldCondition(key=path, range=models.Range(**edges))
    moments = {name: moment for name, bound in held.items() if (moment := _moment(name, bound)) is not None}
    if len(moments) == len(held):
        _require_room(held, moments)
        return models.FieldCondition(key=path, range=models.DatetimeRange(**moments))
    raise ValueError(f"expected bounds that are all numbers or all dates, got {shown(held, 200)}{_bad(held)}")


def _require_room(bounds: Mapping[str, Any], edges: Mapping[str, Any]) -> None:
    """Refuse bounds that no value can be within."""
    # With whether the edge itself is out, so that of two equal ones the narrower counts.
    lows = [(edge, name == "gt") for name, edge in edges.items() if name in _FROM]
    highs = [(edge, name == "lte") for name, edge in edges.items() if name not in _FROM]
    if not lows or not highs:
        return
    (low, above_it), (high, up_to_it) = max(lows), min(highs)
    if low > high or (low == high and (above_it or not up_to_it)):
        raise ValueError(
            f"expected bounds with something in between, got {shown(dict(bounds), 200)}; what is outside of a range is "
            "{'not': …} around it"
        )


def _number(name: str, bound: Any) -> float | None:
    """A bound as a double, where it is a finite number."""
    if isinstance(bound, bool | str | bytes | datetime.date | datetime.time):
        return None
    if isinstance(bound, datetime.timedelta):
        return bound.total_seconds()
    if isinstance(bound, int) and not -(2**63) <= bound < 2**63:
        raise ValueError(f"expected bounds of 64 bits, got {name}: {shown(bound)}; a float can be larger")
    try:
        number = float(bound)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _moment(name: str, bound: Any) -> datetime.datetime | None:
    """A bound as an instant in UTC, where it is a date or a time, or text in ISO form."""
    try:
        if isinstance(bound, str):
            bound = (datetime.date if len(bound) <= _DATE_ONLY else datetime.datetime).fromisoformat(bound)
        if isinstance(bound, datetime.datetime):
            return with_zone(bound).astimezone(datetime.UTC)
        return day(bound)[name in ("gt", "lte")]
    except (TypeError, ValueError, OverflowError):
        return None


def _bad(bounds: Mapping[str, Any]) -> str:
    for name, bound in bounds.items():
        if isinstance(bound, str) and _moment(name, bound) is None:
            return (
                f"; {name}: {shown(bound)} is no date such as '2024-02-29' or '2024-02-29T08:30:00+08:00', and a number "
                "has no quotes"
            )
        if not isinstance(bound, str) and _number(name, bound) is None and _moment(name, bound) is None:
            return f"; {name}: {shown(bound, 200)} is neither"
    return ""
