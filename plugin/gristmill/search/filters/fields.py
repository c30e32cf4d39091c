"""Which fields a compiled filter looks at, and by which types of index Qdrant can find them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from qdrant_client import models


class Use(NamedTuple):
    """One condition on one field."""

    #: The field's path, as an index of it is called.
    field: str
    #: Types of index that serve, the best first; none where any does.
    types: tuple[str, ...]
    #: Whether the words must follow one another, for which an index needs an option.
    phrase: bool = False


def uses(where: Any, above: str = "") -> Iterator[Use]:
    """Every condition on a field, those within nested objects included.

    Args:
        where: a filter or a condition; None has no fields.
        above: path of the list whose items it is about, with the dot behind it.
    """
    match where:
        case models.Filter():
            least = where.min_should.conditions if where.min_should else []
            for part in (where.must, where.should, where.must_not, least):
                for each in part if isinstance(part, list) else [part]:
                    yield from uses(each, above)
        case models.NestedCondition():
            yield from uses(where.nested.filter, f"{above}{where.nested.key.removesuffix('[]')}[].")
        case models.IsEmptyCondition():
            yield Use(above + where.is_empty.key, ())
        case models.IsNullCondition():
            yield Use(above + where.is_null.key, ())
        case models.FieldCondition():
            yield Use(above + where.key, _types(where), isinstance(where.match, models.MatchPhrase))


def _types(condition: models.FieldCondition) -> tuple[str, ...]:
    if condition.match is not None:
        return _of_match(condition.match)
    match condition.range:
        case models.DatetimeRange():
            return ("datetime",)
        case models.Range() as bounds:
            edges = [edge for edge in (bounds.gt, bounds.gte, bounds.lt, bounds.lte) if edge is not None]
            return ("integer", "float") if all(map(float.is_integer, map(float, edges))) else ("float", "integer")
    geo = (condition.geo_radius, condition.geo_bounding_box, condition.geo_polygon)
    return ("geo",) if any(each is not None for each in geo) else ()


def _of_match(match: models.Match) -> tuple[str, ...]:
    match match:
        case models.MatchValue():
            return _of_value(match.value)
        case models.MatchAny():
            return _of_value(next(iter(match.any), ""))
        case models.MatchExcept():
            return _of_value(next(iter(match.except_), ""))
        case models.MatchText() | models.MatchTextAny() | models.MatchPhrase():
            return ("text",)
    return ("keyword",)


def _of_value(value: object) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("bool",)
    return ("integer",) if isinstance(value, int) else ("keyword", "uuid")
