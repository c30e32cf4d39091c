"""The grammar itself: filters, conditions and what joins them, into Qdrant's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from qdrant_client import models

from gristmill.search.filters import geo, presence, words
from gristmill.search.filters.hints import joined, meant
from gristmill.search.filters.ranges import BOUNDS, in_range
from gristmill.search.filters.types import Where
from gristmill.search.filters.values import any_value, equal, nothing
from gristmill.store.paths import first_part, payload_path
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.plain import native
from gristmill_schemas.point import TENANT_PATH
from gristmill_schemas.validation import SYSTEM_KEY, clean_identifier, shown

#: What joins filters among the keys, and conditions among the operators.
JOINS = ("all", "any", "not")
_LEAVES: dict[str, Callable[[str, Any], models.Condition]] = {
    "text": words.text,
    "text_any": words.text_any,
    "phrase": words.phrase,
    "missing": presence.missing,
    "null": presence.null,
    "empty": presence.empty,
    "count": presence.count,
    "radius": geo.radius,
    "box": geo.box,
    "polygon": geo.polygon,
}
OPERATORS = (*BOUNDS, *JOINS, "nested", *_LEAVES)
_CONDITION = f"a value, a list of values, null, or operators ({', '.join(OPERATORS)})"
#: Levels of filters in filters. Qdrant reads some thirty.
_DEEPEST = 16

#: Qdrant's own: whole conditions, and what one field must match.
_WHOLE = get_args(models.Condition)
_OF_A_FIELD: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("match", get_args(models.Match)),
    ("range", get_args(models.RangeInterface)),
    ("geo_radius", (models.GeoRadius,)),
    ("geo_bounding_box", (models.GeoBoundingBox,)),
    ("geo_polygon", (models.GeoPolygon,)),
    ("values_count", (models.ValuesCount,)),
)


def compile_filter(where: Where | None, tenant: str | None = None) -> models.Filter | None:
    """Compile `where` and a tenant into one Qdrant filter; None if there is nothing to filter by.

    Keys with dots reach into nested metadata, and a key that has a dot of its own, or is called `all`, `any` or `not`, goes
    into double quotes. A date matches all of its day, a datetime the same instant however it was written; both are UTC where
    nothing else is said. A number matches numbers, text matches text. A key of Gristmill's own is refused; Qdrant's models
    pass as they are.

    Raises:
        InvalidInput: naming the key, what came and what was expected.
    """
    conditions = [] if where is None else _all_of("where", where, 1)
    if tenant is not None:
        conditions.append(models.FieldCondition(key=TENANT_PATH, match=models.MatchValue(value=tenant)))
    return models.Filter(must=conditions) if conditions else None


def condition(key: object, value: Any) -> models.Condition:
    """One key of `where` as a condition."""
    return _entry("where", key, value, 1)


def _all_of(at: str, where: object, depth: int) -> list[models.Condition]:
    """The conditions of a filter, all of which must hold."""
    if depth > _DEEPEST:
        raise InvalidInput(f"where: expected at most {_DEEPEST} levels of filters in filters, got more", field="where")
    if isinstance(where, _WHOLE):
        return [] if _says_nothing(where) else [where]
    if not isinstance(where, Mapping):
        kind = shown(where) if depth > 1 else type(where).__name__
        raise InvalidInput(
            f"{at}: expected a mapping or a qdrant Filter, got {kind}; such as {{'lang': 'zh'}}{_quoted(at)}", field=at
        )
    return [_entry(at, key, value, depth) for key, value in where.items()]


def _quoted(at: str) -> str:
    word = at.rpartition(".")[2].partition("[")[0]
    return f"; a key of the metadata that is called {word} goes into double quotes" if word in JOINS else ""


def _says_nothing(where: Any) -> bool:
    """Whether this is an empty Filter, which every point matches."""
    if not isinstance(where, models.Filter) or where.min_should is not None:
        return False
    must = where.must if isinstance(where.must, list) else [where.must] if where.must else []
    return not where.should and not where.must_not and all(_says_nothing(each) for each in must)


def _one(at: str, where: object, depth: int) -> models.Condition:
    """A filter within another, as one condition."""
    conditions = _all_of(at, where, depth)
    if not conditions:
        raise InvalidInput(f"{at}: expected a filter with at least one condition, got none", field=at)
    return conditions[0] if len(conditions) == 1 else models.Filter(must=conditions)


def _entry(at: str, key: object, value: Any, depth: int) -> models.Condition:
    if key in JOINS:
        return _joined_filters(f"{at}.{key}", str(key), value, depth)
    name = _name(at, key)
    place = f"{at}.{name if name.isprintable() and len(name) <= 80 else shown(name)}"
    try:
        path = payload_path(name)
    except ValueError as error:
        raise InvalidInput(f"{place}: {error}", field=place) from None
    _require_theirs(place, path)
    try:
        return _condition(place, path, value, depth)
    except InvalidInput as error:
        if error.field == place and (hint := joined(name, value)):
            raise InvalidInput(f"{error}{hint}", field=place) from None
        raise


def _name(at: str, key: object) -> str:
    try:
        return clean_identifier(key)
    except ValueError as error:
        raise InvalidInput(f"{at}: a key: {error}", field=at) from None


def _require_theirs(place: str, path: str) -> None:
    if first_part(path) == SYSTEM_KEY:
        raise InvalidInput(
            f"{place}: expected a key of the metadata, got {SYSTEM_KEY!r}, which is Gristmill's own; `tenant=` and `job=` "
            "name a tenant and a job, `get` and `delete` take ids, and a qdrant_client.models.Filter passes as it is",
            field=place,
        )


def _joined_filters(at: str, join: str, value: Any, depth: int) -> models.Condition:
    several = _is_list(value)
    if not several and join != "not":
        raise InvalidInput(f"{at}: expected a list of filters, got {shown(value, 200)}{_quoted(at)}", field=at)
    filters = value if several else [value]
    return _join(at, join, [_one(f"{at}[{n}]" if several else at, each, depth + 1) for n, each in enumerate(filters)])


def _join(at: str, join: str, conditions: list[models.Condition]) -> models.Condition:
    if not conditions:
        raise InvalidInput(f"{at}: expected a list with at least one item, got an empty one", field=at)
    if join == "not":
        return models.Filter(must_not=conditions)
    if len(conditions) == 1:
        return conditions[0]
    return models.Filter(must=conditions) if join == "all" else models.Filter(should=conditions)


def _condition(at: str, path: str, value: Any, depth: int) -> models.Condition:
    """What is wanted of one key."""
    if isinstance(value, Mapping):
        return _operators(at, path, value, depth)
    return _leaf(at, lambda: _plain_condition(path, value))


def _plain_condition(path: str, value: Any) -> models.Condition:
    for name, kinds in _OF_A_FIELD:
        if isinstance(value, kinds):
            return models.FieldCondition(key=path, **{name: value})
    value = native(value, "value")
    if value is None:
        return nothing(path)
    if isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray | memoryview):
        return any_value(path, list(value))
    return equal(path, value)


def _leaf(at: str, compiled: Callable[[], models.Condition]) -> models.Condition:
    try:
        return compiled()
    except InvalidInput:
        raise
    except ValueError as error:
        raise InvalidInput(f"{at}: {error}", field=at) from None


def _operators(at: str, path: str, asked: Mapping[Any, Any], depth: int) -> models.Condition:
    unknown = [name for name in asked if name not in OPERATORS]
    if unknown or not asked:
        hint = meant(path, unknown[0], OPERATORS) if unknown else ""
        raise InvalidInput(f"{at}: expected {_CONDITION}, got {shown(dict(asked), 200)}{hint}", field=at)
    bounds = {name: bound for name, bound in asked.items() if name in BOUNDS}
    conditions = [_leaf(at, lambda: in_range(path, bounds))] if bounds else []
    conditions += [_operator(at, path, name, value, depth) for name, value in asked.items() if name not in BOUNDS]
    return conditions[0] if len(conditions) == 1 else models.Filter(must=conditions)


def _operator(at: str, path: str, name: str, value: Any, depth: int) -> models.Condition:
    place = f"{at}.{name}"
    if name in _LEAVES:
        return _leaf(place, lambda: _LEAVES[name](path, value))
    if name == "nested":
        inner = _one(place, value, depth + 1)
        whole = inner if isinstance(inner, models.Filter) else models.Filter(must=[inner])
        return models.NestedCondition(nested=models.Nested(key=path, filter=whole))
    return _joined_conditions(place, path, name, value, depth)


def _joined_conditions(at: str, path: str, join: str, value: Any, depth: int) -> models.Condition:
    if depth >= _DEEPEST:
        raise InvalidInput(f"where: expected at most {_DEEPEST} levels of filters in filters, got more", field="where")
    if join == "not":
        return _join(at, join, [_condition(at, path, value, depth + 1)])
    if not _is_list(value):
        raise InvalidInput(f"{at}: expected a list of conditions, got {shown(value, 200)}", field=at)
    return _join(at, join, [_condition(f"{at}[{n}]", path, each, depth + 1) for n, each in enumerate(value)])


def _is_list(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray | memoryview | Mapping)
