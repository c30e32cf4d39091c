"""What a filter means, in plain Python over plain payloads: the reference that Qdrant's answers are compared with."""

from __future__ import annotations

import datetime
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

ABSENT = object()
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_EARTH_M = 6_371_008.8


def matches(where: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether a payload is what a filter asks for."""
    return all(_entry(key, value, payload) for key, value in where.items())


def _entry(key: str, value: Any, payload: Mapping[str, Any]) -> bool:
    if key == "all":
        return all(matches(each, payload) for each in value)
    if key == "any":
        return any(matches(each, payload) for each in value)
    if key == "not":
        return not any(matches(each, payload) for each in (value if isinstance(value, list) else [value]))
    return holds(value, reached(payload, key.split(".")))


def reached(value: Any, parts: list[str]) -> Any:
    """What is at a path, through objects alone."""
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def holds(condition: Any, value: Any) -> bool:
    """Whether what is under a key is as asked."""
    if isinstance(condition, Mapping):
        return all(_operator(name, operand, value) for name, operand in condition.items())
    if isinstance(condition, list):
        return any(holds(each, value) for each in condition)
    if condition is None:
        return _nothing(value)
    return any(_equal(condition, each) for each in _items(value))


def _items(value: Any) -> Iterator[Any]:
    if value is not ABSENT:
        yield from value if isinstance(value, list) else [value]


def _nothing(value: Any) -> bool:
    return value is ABSENT or value is None or value == []


def _equal(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, datetime.datetime):
        return _moment(value) == _utc(wanted)
    if isinstance(wanted, datetime.date):
        there = _moment(value)
        return there is not None and there.date() == wanted
    return isinstance(wanted, bool) == isinstance(value, bool) and bool(wanted == value)


def _operator(name: str, operand: Any, value: Any) -> bool:
    match name:
        case "gt" | "gte" | "lt" | "lte":
            raise AssertionError("bounds stand in `between`, since one item must be within all of them")
        case "between":
            return any(_within(operand, each) for each in _items(value))
        case "all":
            return all(holds(each, value) for each in operand)
        case "any":
            return any(holds(each, value) for each in operand)
        case "not":
            return not holds(operand, value)
        case "missing":
            return bool((value is ABSENT or value == []) == operand)
        case "null":
            return bool((value is None) == operand)
        case "empty":
            return bool(_nothing(value) == operand)
        case "count":
            bounds = operand if isinstance(operand, Mapping) else {"gte": operand, "lte": operand}
            return all(_COMPARED[each](_count(value), bound) for each, bound in bounds.items())
        case "nested":
            inside = value if isinstance(value, list) else []
            return any(matches(operand, each) for each in inside if isinstance(each, Mapping))
        case "text":
            return any(_words(operand) <= _words(each) for each in _items(value))
        case "text_any":
            return any(_words(operand) & _words(each) != set() for each in _items(value))
        case "phrase":
            return any(f" {' '.join(_spoken(operand))} " in f" {' '.join(_spoken(each))} " for each in _items(value))
        case _:
            return any(_is_place(each) and _located(name, operand, each) for each in _items(value))


def _count(value: Any) -> int:
    return 0 if value is ABSENT or value is None else len(value) if isinstance(value, list) else 1


def _within(bounds: Mapping[str, Any], value: Any) -> bool:
    if isinstance(next(iter(bounds.values())), int | float):
        there = None if isinstance(value, bool) or not isinstance(value, int | float) else value
        return there is not None and all(_COMPARED[name](there, bound) for name, bound in bounds.items())
    moment = _moment(value)
    return moment is not None and all(_dated(name, bound, moment) for name, bound in bounds.items())


def _dated(name: str, bound: Any, moment: datetime.datetime) -> bool:
    """A date is all of its day."""
    if isinstance(bound, str):
        bound = datetime.date.fromisoformat(bound) if len(bound) == 10 else datetime.datetime.fromisoformat(bound)
    return _COMPARED[name](*((moment, _utc(bound)) if isinstance(bound, datetime.datetime) else (moment.date(), bound)))


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC) if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _moment(value: Any) -> datetime.datetime | None:
    try:
        return _utc(datetime.datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return None


def _spoken(text: Any) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower()) if isinstance(text, str) else []


def _words(text: Any) -> set[str]:
    return set(_spoken(text))


def _is_place(value: Any) -> bool:
    return isinstance(value, Mapping) and {"lat", "lon"} <= set(value)


def _located(name: str, operand: Any, place: Mapping[str, float]) -> bool:
    if name == "radius":
        return bool(_meters(operand, place) < operand["meters"])
    if name == "box":
        west, east, lon = operand["west"], operand["east"], place["lon"]
        across = lon > west or lon < east if west > east else west < lon < east
        return bool(across and operand["south"] < place["lat"] < operand["north"])
    rings = [operand["exterior"], *operand["interiors"]] if isinstance(operand, Mapping) else [operand]
    return _inside(rings[0], place) and not any(_inside(hole, place) for hole in rings[1:])


def _meters(here: Mapping[str, float], there: Mapping[str, float]) -> float:
    lat1, lat2 = math.radians(here["lat"]), math.radians(there["lat"])
    half = math.radians(there["lon"] - here["lon"]) / 2
    a = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(half) ** 2
    return 2 * _EARTH_M * math.asin(math.sqrt(a))


def _inside(ring: list[Mapping[str, float]], place: Mapping[str, float]) -> bool:
    crossed = 0
    for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (a["lat"] > place["lat"]) != (b["lat"] > place["lat"]):
            share = (place["lat"] - a["lat"]) / (b["lat"] - a["lat"])
            crossed += place["lon"] < a["lon"] + share * (b["lon"] - a["lon"])
    return crossed % 2 == 1
