"""Plain mappings into Qdrant filters: `{"lang": "zh", "year": {"gte": 2020}, "tag": ["a", "b"]}`.

Values are converted as those of documents are (`gristmill_schemas.plain`), so what was stored is found by the same value.
"""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from qdrant_client import models

from gristmill.store.paths import payload_path
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.plain import native, plain, with_zone
from gristmill_schemas.point import TENANT_PATH
from gristmill_schemas.validation import clean_identifier, shown

#: What an application may pass as `where`.
Where = Mapping[str, Any] | models.Filter

_BOUNDS = frozenset({"gt", "gte", "lt", "lte"})
_OPERATORS = ("not", *sorted(_BOUNDS))
_EXPECTED = f"a value, a list of values, null, {{'not': …}} or bounds {sorted(_BOUNDS)}"
#: What users of other libraries would write, and how it is said here.
_ELSEWHERE = {
    **dict.fromkeys(("gt", ">", "after"), "'gt'"),
    **dict.fromkeys(("gte", ">=", "ge", "min", "from", "since"), "'gte'"),
    **dict.fromkeys(("lt", "<", "before"), "'lt'"),
    **dict.fromkeys(("lte", "<=", "le", "max", "to", "until"), "'lte'"),
    **dict.fromkeys(("between", "range"), "'gte' and 'lte' together"),
    **dict.fromkeys(("eq", "==", "=", "match", "value", "is"), "the value itself, without an operator"),
    **dict.fromkeys(("ne", "neq", "!=", "<>", "is_not", "nin", "not_in", "must_not", "except"), "'not'"),
    **dict.fromkeys(("in", "any", "one_of", "any_of"), "a list, without an operator"),
    **dict.fromkeys(
        ("contains", "like", "ilike", "text", "regex", "startswith", "exists"),
        "a qdrant_client.models.Filter, which has conditions for that",
    ),
}
#: Keys that join conditions elsewhere.
_JOINING = frozenset({"and", "or", "nor", "should", "must", "must_not", "filter", "not"})


def compile_filter(where: Where | None, tenant: str | None = None) -> models.Filter | None:
    """Compile `where` and a tenant into one Qdrant filter; None if there is nothing to filter by.

    A mapping means "all of these". Per key: a value must match; a list matches any of its items; `{"gte": 1, "lt": 9}` is a
    range of numbers or dates; `{"not": value}` excludes; None wants the key absent or null; keys with dots reach into nested
    metadata, and a key that has a dot of its own goes into double quotes. A date matches all of its day, a datetime the same
    instant however it was written; both are UTC where nothing else is said. A number matches numbers, text matches text.

    Raises:
        InvalidInput: naming the key, what came and what was expected.
    """
    conditions: list[models.Condition] = []
    if isinstance(where, models.Filter):
        conditions.append(where)
    elif where is not None:
        if not isinstance(where, Mapping):
            raise InvalidInput(
                f"where: expected a mapping or a qdrant Filter, got {type(where).__name__}; such as {{'lang': 'zh'}}",
                field="where",
            )
        conditions += [condition(key, value) for key, value in where.items()]
    if tenant is not None:
        conditions.append(models.FieldCondition(key=TENANT_PATH, match=models.MatchValue(value=tenant)))
    return models.Filter(must=conditions) if conditions else None


def condition(key: object, value: Any) -> models.Condition:
    """One key of `where` as a condition."""
    name = _name(key)
    try:
        return _condition(payload_path(name), value)
    except ValueError as error:
        field = f"where.{name if name.isprintable() and len(name) <= 80 else shown(name)}"
        raise InvalidInput(f"{field}: {error}{_joined(name, value)}", field=field) from None


def _name(key: object) -> str:
    try:
        return clean_identifier(key)
    except ValueError as error:
        raise InvalidInput(f"where: a key: {error}", field="where") from None


def _condition(path: str, value: Any) -> models.Condition:
    value = native(value, "value")
    match value:
        case None:
            return _missing(path)
        case Mapping():
            return _operation(path, value)
        case datetime.datetime():
            return _instant(path, value)
        case datetime.date():
            return _day(path, value)
    if isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray | memoryview):
        return _any(path, list(value))
    return _equal(path, _plain(value))


def _missing(path: str) -> models.Condition:
    return models.Filter(
        should=[
            models.IsEmptyCondition(is_empty=models.PayloadField(key=path)),
            models.IsNullCondition(is_null=models.PayloadField(key=path)),
        ]
    )


def _plain(value: Any) -> Any:
    try:
        return plain(value, "")
    except ValueError as error:
        raise ValueError(str(error).removeprefix(": ")) from None


def _equal(path: str, value: Any) -> models.Condition:
    if value is None:  # NaN
        return _missing(path)
    if isinstance(value, float):
        return models.FieldCondition(key=path, range=models.Range(gte=_below(value), lte=_above(value)))
    return models.FieldCondition(key=path, match=models.MatchValue(value=value))


def _instant(path: str, value: datetime.datetime) -> models.Condition:
    try:
        moment = with_zone(value).astimezone(datetime.UTC)
    except OverflowError:  # an offset leads out of the years that are there
        return _equal(path, _plain(value))
    return models.FieldCondition(key=path, range=models.DatetimeRange(gte=moment, lte=moment))


def _day(path: str, value: datetime.date) -> models.Condition:
    first, last = (
        datetime.datetime.combine(value, time, datetime.UTC) for time in (datetime.time.min, datetime.time.max)
    )
    return models.FieldCondition(key=path, range=models.DatetimeRange(gte=first, lte=last))


def _any(path: str, values: list[Any]) -> models.Condition:
    if not values:
        raise ValueError("expected a list with at least one item, got an empty one")
    if any(isinstance(value, Mapping | list | tuple | set) for value in values):
        raise ValueError(f"expected a list of strings, numbers, dates or null, got {shown(values, 200)}")
    kinds = {type(value) for value in values}
    if kinds in ({str}, {int}):  # MatchAny wants one type
        return models.FieldCondition(key=path, match=models.MatchAny(any=[_plain(value) for value in values]))
    return models.Filter(should=[_condition(path, value) for value in values])


def _operation(path: str, value: Mapping[Any, Any]) -> models.Condition:
    if set(value) == {"not"} and not (isinstance(value["not"], Mapping) and "not" in value["not"]):
        return models.Filter(must_not=[_condition(path, value["not"])])
    if value and set(value) <= _BOUNDS:
        return _range(path, {name: native(bound, name) for name, bound in value.items()})
    raise ValueError(f"expected {_EXPECTED}, got {shown(dict(value), 200)}{_meant(path, value)}")


def _meant(path: str, value: Mapping[Any, Any]) -> str:
    """What is probably meant by operators that there are not."""
    for name in value:
        if name in _BOUNDS or not isinstance(name, str):
            continue
        if name == "not":
            return "; 'not' stands alone, and once"
        plain_name = name.strip().lstrip("$").lower()
        close = difflib.get_close_matches(plain_name, _OPERATORS, n=1, cutoff=0.7)
        if meant := _ELSEWHERE.get(plain_name) or (f"{close[0]!r}" if close else None):
            return f"; instead of {shown(name)} say {meant}"
        return f"; a nested key is written with a dot, as in {{{shown(f'{path}.{name}')}: …}}"
    return ""


def _joined(name: str, value: Any) -> str:
    if name.lstrip("$").lower() not in _JOINING or not isinstance(value, list | tuple | Mapping):
        return ""
    return (
        f"; if {shown(name)} shall join conditions: a mapping means all of its keys, a list any of its values, and for more "
        "there is qdrant_client.models.Filter"
    )


def _range(path: str, bounds: dict[str, Any]) -> models.FieldCondition:
    numbers = {name: number for name, bound in bounds.items() if (number := _number(bound)) is not None}
    if len(numbers) == len(bounds):
        edges = {name: _below(bound) if name in ("gte", "lt") else _above(bound) for name, bound in numbers.items()}
        return models.FieldCondition(key=path, range=models.Range(**edges))
    moments = {name: moment for name, bound in bounds.items() if (moment := _moment(bound)) is not None}
    if len(moments) == len(bounds):
        return models.FieldCondition(key=path, range=models.DatetimeRange(**moments))
    raise ValueError(f"expected bounds that are all numbers or all dates, got {shown(bounds, 200)}{_bad_bound(bounds)}")


def _below(number: float) -> float:
    """A little less, where the number has a fraction: Qdrant reads what it has stored to within a unit of the last place."""
    return (
        number
        if number.is_integer() and abs(number) < 2**53
        else math.nextafter(number - abs(number) * 2**-51, -math.inf)
    )


def _above(number: float) -> float:
    """A little more, likewise."""
    return -_below(-number)


def _number(bound: Any) -> float | None:
    """A bound as a double, where it is a finite number."""
    if isinstance(bound, bool | str | datetime.date | datetime.time):
        return None
    if isinstance(bound, datetime.timedelta):
        return bound.total_seconds()
    try:
        number = float(bound)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _moment(bound: Any) -> datetime.datetime | None:
    """A bound as an instant in UTC, where it is a date or a time, or text in ISO form; a date is its midnight."""
    try:
        if isinstance(bound, str):
            bound = datetime.datetime.fromisoformat(bound)
        if isinstance(bound, datetime.datetime):
            return with_zone(bound).astimezone(datetime.UTC)
        return datetime.datetime.combine(bound, datetime.time.min, datetime.UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _bad_bound(bounds: Mapping[str, Any]) -> str:
    for name, bound in bounds.items():
        if isinstance(bound, str):
            return (
                f"; {name}: {shown(bound)} is no date such as '2024-02-29' or '2024-02-29T08:30:00+08:00', and a number "
                "has no quotes"
            )
        if _number(bound) is None and _moment(bound) is None:
            return f"; {name}: {shown(bound, 200)} is neither"
    return ""
