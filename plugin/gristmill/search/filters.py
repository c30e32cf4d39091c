"""Plain mappings into Qdrant filters: `{"lang": "zh", "year": {"gte": 2020}, "tag": ["a", "b"]}`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from qdrant_client import models

from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.point import TENANT_PATH
from gristmill_schemas.validation import check_json, clean_identifier

#: What an application may pass as `where`.
Where = Mapping[str, Any] | models.Filter

_BOUNDS = frozenset({"gt", "gte", "lt", "lte"})


def compile_filter(where: Where | None, tenant: str | None = None) -> models.Filter | None:
    """Compile `where` and a tenant into one Qdrant filter; None if there is nothing to filter by.

    A mapping means "all of these". Per key: a string, integer or boolean must match; a list matches any of its items;
    `{"gte": 1, "lt": 9}` is a range of numbers or dates; `{"not": value}` excludes; None wants the key absent or null;
    keys with dots reach into nested metadata.

    Raises:
        InvalidInput: naming the key, what came and what was expected.
    """
    conditions: list[models.Condition] = []
    if isinstance(where, models.Filter):
        conditions.append(where)
    elif where is not None:
        if not isinstance(where, Mapping):
            raise InvalidInput(
                f"where: expected a mapping or a qdrant Filter, got {type(where).__name__}", field="where"
            )
        conditions += [_condition(_key(key), value) for key, value in where.items()]
    if tenant is not None:
        conditions.append(_match(TENANT_PATH, tenant))
    return models.Filter(must=conditions) if conditions else None


def _key(key: object) -> str:
    try:
        return clean_identifier(key)
    except ValueError as error:
        raise InvalidInput(f"where: a key: {error}", field="where") from None


def _condition(key: str, value: Any) -> models.Condition:
    match value:
        case None:
            return models.Filter(
                should=[
                    models.IsEmptyCondition(is_empty=models.PayloadField(key=key)),
                    models.IsNullCondition(is_null=models.PayloadField(key=key)),
                ]
            )
        case str() | bool() | int():
            return _match(key, value)
        case list() | tuple() | set() | frozenset():
            return _any(key, list(value))
        case {"not": unwanted, **rest} if not rest:
            return models.Filter(must_not=[_condition(key, unwanted)])
        case Mapping() if value and set(value) <= _BOUNDS:
            return _range(key, dict(value))
    raise InvalidInput(
        f"where.{key}: expected a string, integer, boolean, list, null, {{'not': …}} or bounds {sorted(_BOUNDS)}, "
        f"got {value!r}" + ("; for a number with a fraction use bounds" if isinstance(value, float) else ""),
        field=f"where.{key}",
    )


def _match(key: str, value: str | int | bool) -> models.FieldCondition:
    try:
        check_json(value, f"where.{key}")
    except ValueError as error:  # integers beyond 64 bits, lone surrogates: no stored value has them
        raise InvalidInput(str(error), field=f"where.{key}") from None
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _any(key: str, values: list[Any]) -> models.Condition:
    if not values or not all(isinstance(value, str | int) for value in values):
        raise InvalidInput(
            f"where.{key}: expected a list of strings or integers with at least one item, got {values!r}",
            field=f"where.{key}",
        )
    if all(isinstance(value, str) for value in values) or all(
        isinstance(value, int) and not isinstance(value, bool) for value in values
    ):
        for value in values:
            _match(key, value)
        return models.FieldCondition(key=key, match=models.MatchAny(any=values))
    return models.Filter(should=[_match(key, value) for value in values])  # MatchAny wants one type


def _range(key: str, bounds: dict[str, Any]) -> models.FieldCondition:
    values = bounds.values()
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        try:
            return models.FieldCondition(key=key, range=models.Range(**bounds))
        except (ValueError, OverflowError) as error:
            raise InvalidInput(f"where.{key}: expected numbers that a double can hold, got {bounds!r}") from error
    if all(isinstance(value, str | datetime | date) for value in values):
        try:
            return models.FieldCondition(key=key, range=models.DatetimeRange(**bounds))
        except ValueError as error:
            raise InvalidInput(
                f"where.{key}: expected dates in ISO form, got {bounds!r}", field=f"where.{key}"
            ) from error
    raise InvalidInput(
        f"where.{key}: expected bounds that are all numbers or all dates, got {bounds!r}", field=f"where.{key}"
    )
