"""What documents are put in order by, and the conditions that divide them: before a value, at it, after it, without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.arguments import refuse
from gristmill.search.filters.values import above, below
from gristmill.store.connection import store_errors
from gristmill.store.indexes import field_path, list_indexes
from gristmill.store.paths import parts_of, reached
from gristmill.store.tenancy import of_tenant
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import InvalidInput

#: Types of index that have an order.
ORDERED = ("integer", "float", "datetime")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Qdrant counts time in these.
_TICK = timedelta(microseconds=1)
_FIRST_MOMENT = datetime(1, 1, 1, tzinfo=UTC)
_LEAST_NUMBER = -1.7e308


@dataclass(frozen=True, slots=True)
class Order:
    """A field, and which end of it comes first. Of a list, the value that comes first counts."""

    path: str
    descending: bool
    #: Values are dates; `values` of Qdrant's are then microseconds since 1970.
    dates: bool

    @property
    def name(self) -> str:
        """As it is asked for: `year`, `-year`."""
        return f"{'-' * self.descending}{self.path}"

    def asked(self) -> models.OrderBy:
        """In Qdrant's words."""
        return models.OrderBy(key=self.path, direction=models.Direction("desc" if self.descending else "asc"))

    def at(self, value: float) -> models.Filter:
        """Documents that stand at this value."""
        return models.Filter(must=[self._within(value, value)], must_not=[self._before(value)])

    def after(self, value: float) -> models.Filter:
        """Documents that stand behind this value."""
        last = below(value) if self.descending else above(value)
        behind = self._range(lt=last) if self.descending else self._range(gt=last)
        until = self._range(gte=last) if self.descending else self._range(lte=last)
        return models.Filter(must=[behind], must_not=[until])

    def without(self) -> models.Filter:
        """Documents that have no such value: none at all, or one of another type."""
        least = {"gte": _FIRST_MOMENT} if self.dates else {"gte": _LEAST_NUMBER}
        kind = models.DatetimeRange if self.dates else models.Range
        return models.Filter(must_not=[models.FieldCondition(key=self.path, range=kind(**least))])

    def _within(self, low: float, high: float) -> models.FieldCondition:
        return self._range(gte=below(low), lte=above(high))

    def _before(self, value: float) -> models.FieldCondition:
        return self._range(gt=above(value)) if self.descending else self._range(lt=below(value))

    def _range(self, **bounds: float) -> models.FieldCondition:
        if not self.dates:
            return models.FieldCondition(key=self.path, range=models.Range(**bounds))
        moments: Mapping[str, Any] = {name: _EPOCH + round(bound) * _TICK for name, bound in bounds.items()}
        return models.FieldCondition(key=self.path, range=models.DatetimeRange(**moments))


def asked_order(
    store: QdrantClient, spec: CollectionSpec, order_by: object, tenant: str | None, *, local: bool
) -> Order:
    """What `order_by` asks for: a field, with a minus before it for its highest values first.

    Raises:
        InvalidInput: it is no field, or one without an index that has an order.
    """
    if not isinstance(order_by, str) or not order_by.strip("-"):
        raise refuse(
            "order_by", "the name of a field, such as 'year', or '-year' for its highest values first", order_by
        )
    descending = order_by.startswith("-")
    path = field_path("order_by", order_by[descending:])
    if local:
        return Order(path, descending, _dates_in_local_mode(store, spec, path, tenant))
    kinds = {each.field: each.type for each in list_indexes(store, spec)}
    if kinds.get(path) not in ORDERED:
        raise _unordered(spec, path, kinds.get(path))
    return Order(path, descending, kinds[path] == "datetime")


def _dates_in_local_mode(store: QdrantClient, spec: CollectionSpec, path: str, tenant: str | None) -> bool:
    """Local mode has no indexes that would tell: what stands first in order does, of what the tenant may see."""
    with store_errors(spec.name):
        first, _ = store.scroll(spec.name, scroll_filter=of_tenant(tenant), limit=1, order_by=path, with_payload=[path])
    return any(isinstance(value, str) for each in first for value in reached(each.payload, parts_of(path)))


def _unordered(spec: CollectionSpec, path: str, there: str | None) -> InvalidInput:
    what = "which has none" if there is None else f"whose index is of type {there}"
    index = f"`gristmill collections index create {spec.name} {path}=integer` (or =datetime)"
    return InvalidInput(
        f"order_by: expected a field with an index of type {', '.join(ORDERED[:-1])} or {ORDERED[-1]}, got {path!r}, "
        f"{what} in collection {spec.name!r}; {index} makes one, or client.indexes.create",
        field="order_by",
        collection=spec.name,
    )
