"""LlamaIndex's metadata filters in Gristmill's words: each operator is one of ours, or refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from gristmill.arguments import refuse
from gristmill.search.filters import Where
from gristmill_schemas.errors import InvalidInput

_WORDS: Final = {"all", "any", "not"}
_CONDITIONS: Final[dict[Any, Callable[[Any], Any]]] = {
    FilterOperator.EQ: lambda value: value,
    FilterOperator.NE: lambda value: {"not": value},
    FilterOperator.GT: lambda value: {"gt": value},
    FilterOperator.GTE: lambda value: {"gte": value},
    FilterOperator.LT: lambda value: {"lt": value},
    FilterOperator.LTE: lambda value: {"lte": value},
    FilterOperator.IN: lambda value: {"any": value},
    FilterOperator.NIN: lambda value: {"not": value},
    FilterOperator.ANY: lambda value: {"any": value},
    FilterOperator.ALL: lambda value: {"all": value},
    FilterOperator.CONTAINS: lambda value: value,
    FilterOperator.TEXT_MATCH: lambda value: {"text": value},
    FilterOperator.IS_EMPTY: lambda value: {"empty": True},
}
#: Operators that take a list, and no other does.
_OF_LISTS: Final = {FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL}
_JOINTS: Final = {FilterCondition.AND: "all", FilterCondition.OR: "any", FilterCondition.NOT: "not"}


def where_of(filters: MetadataFilters | None) -> Where | None:
    """The filters as `where`; None where there are none.

    Raises:
        InvalidInput: an operator has no counterpart, or a value of another kind than it takes.
    """
    if filters is None or not filters.filters:
        return None
    joint = _JOINTS[filters.condition or FilterCondition.AND]
    found: Where = {joint: [_one(each) for each in filters.filters]}
    return found


def _one(given: MetadataFilter | MetadataFilters) -> Any:
    if isinstance(given, MetadataFilters):
        return where_of(given) or {}
    key, operator = given.key, FilterOperator(given.operator)
    make = _CONDITIONS.get(operator)
    if make is None:
        raise InvalidInput(
            f"filters.{key}: operator {operator.value!r} has no counterpart: whether letters' case counts is decided by "
            f"the field's index (client.indexes.create(…, {{{key!r}: {{'type': 'text', 'lowercase': True}}}})); use "
            f"{FilterOperator.TEXT_MATCH.value!r}",
            field=f"filters.{key}",
        )
    if (operator in _OF_LISTS) is not isinstance(given.value, list):
        expected = f"{'a list' if operator in _OF_LISTS else 'one value'} with operator {operator.value!r}"
        raise refuse(f"filters.{key}", expected, given.value)
    return {f'"{key}"' if key in _WORDS else key: make(given.value)}
