"""A value that must be there, and lists of such values."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from qdrant_client import models

from gristmill_schemas.plain import native, plain, with_zone
from gristmill_schemas.validation import shown


def equal(path: str, value: Any) -> models.Condition:
    """The value itself; a date is all of its day, a datetime that instant however it was written.

    Raises:
        ValueError: documents cannot have such a value either.
    """
    value = native(value, "value")
    match value:
        case datetime.datetime():
            return _instant(path, value)
        case datetime.date():
            first, last = day(value)
            return models.FieldCondition(key=path, range=models.DatetimeRange(gte=first, lte=last))
    return _equal(path, _plain(value))


def nothing(path: str) -> models.Condition:
    """The key is absent, null, or an empty list."""
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=path))


def any_value(path: str, values: list[Any]) -> models.Condition:
    """Any of the values, of whatever types.

    Raises:
        ValueError: there are none, or one of them is no single value.
    """
    if not values:
        raise ValueError("expected a list with at least one item, got an empty one")
    if any(isinstance(value, Mapping | list | tuple | set | frozenset | BaseModel) for value in values):
        raise ValueError(
            f"expected a list of strings, numbers, dates or null, got {shown(values, 200)}; conditions go into "
            "{'any': […]}"
        )
    conditions = list(_by_type(path, [native(value, "value") for value in values]))
    return conditions[0] if len(conditions) == 1 else models.Filter(should=conditions)


def _by_type(path: str, values: list[Any]) -> Iterator[models.Condition]:
    """As few conditions as Qdrant can do with: its MatchAny takes values of one type."""
    for kind in (str, int):
        if same := [_plain(value) for value in values if type(value) is kind]:
            yield models.FieldCondition(key=path, match=models.MatchAny(any=same))
    yield from (equal(path, value) for value in values if type(value) not in (str, int))


def _plain(value: Any) -> Any:
    try:
        return plain(value, "")
    except ValueError as error:
        raise ValueError(str(error).removeprefix(": ")) from None


def _equal(path: str, value: Any) -> models.Condition:
    if value is None:  # NaN and the like
        return nothing(path)
    if isinstance(value, float):
        return models.FieldCondition(key=path, range=models.Range(gte=below(value), lte=above(value)))
    if isinstance(value, Mapping | list):
        raise ValueError(f"expected a single value, got {shown(value, 200)}")
    return models.FieldCondition(key=path, match=models.MatchValue(value=value))


def _instant(path: str, value: datetime.datetime) -> models.Condition:
    try:
        moment = with_zone(value).astimezone(datetime.UTC)
    except OverflowError:  # an offset leads out of the years that are there
        return _equal(path, _plain(value))
    return models.FieldCondition(key=path, range=models.DatetimeRange(gte=moment, lte=moment))


def day(value: datetime.date) -> tuple[datetime.datetime, datetime.datetime]:
    """The first and the last instant of a day, in UTC."""
    first, last = (
        datetime.datetime.combine(value, time, datetime.UTC) for time in (datetime.time.min, datetime.time.max)
    )
    return first, last


def below(number: float) -> float:
    """A little less, where the number has a fraction: Qdrant reads what it has stored to within a unit of the last place."""
    return (
        number
        if number.is_integer() and abs(number) < 2**53
        else math.nextafter(number - abs(number) * 2**-51, -math.inf)
    )


def above(number: float) -> float:
    """A little more, likewise."""
    return -below(-number)
