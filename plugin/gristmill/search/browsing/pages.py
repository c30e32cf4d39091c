"""Whole documents page by page, each exactly once, in the order of their point ids or of a field's values.

Qdrant pages by point ids alone. By values it goes here so: what stands behind the last value, in order, but for those at
the highest value that was reached, which may be more than came; these then by point ids; last those without a value. So a
page costs one to four requests, however far down it is, and its cursor is a value and a point id.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from qdrant_client import QdrantClient, models

from gristmill.arguments import number, refuse
from gristmill.search.browsing.order import Order
from gristmill.store.connection import store_errors
from gristmill.store.documents import fetch_by_point, first_chunks
from gristmill_schemas import CollectionSpec, DocumentPage

#: Most documents of a page: whole, with their texts.
MOST = 1000

_BEHIND, _AT, _WITHOUT = "behind", "at", "without"


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next page begins."""

    #: What is being gone through: documents behind a value, those at it, those without any; without an order the last.
    stage: str
    #: The value, once there is one.
    value: float | None = None
    #: Point id of the first document, where ids order them.
    point: str | None = None

    def written(self, order: Order | None) -> str:
        """The position as a cursor, which names the order that it is for."""
        fields = [order.name if order else None, self.stage, self.value, self.point]
        return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode()


def asked_position(cursor: object, order: Order | None) -> Position:
    """Where a cursor says that the page begins; None says at the beginning."""
    if cursor is None:
        return Position(_WITHOUT if order is None else _BEHIND)
    try:
        name, stage, value, point = json.loads(base64.urlsafe_b64decode(str(cursor).encode()))
        position = Position(
            stage if stage in (_BEHIND, _AT, _WITHOUT) else _WITHOUT,
            None if value is None else number("cursor", value),
            None if point is None else str(UUID(point)),
        )
        if order and position.value is not None:
            order.at(position.value)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise refuse("cursor", "the cursor of a page", cursor) from None
    if name != (order.name if order else None):
        raise refuse(
            "cursor", f"one of a page with order_by={order.name if order else None!r}", f"of order_by={name!r}"
        )
    return position


class Pages:
    """Documents that match a filter, in an order."""

    def __init__(
        self, store: QdrantClient, spec: CollectionSpec, where: models.Filter | None, order: Order | None
    ) -> None:
        self._store = store
        self._spec = spec
        self._where = where
        self._order = order

    def page(self, start: Position, limit: int) -> DocumentPage:
        """So many documents from a position on."""
        keys: list[str] = []
        at: Position | None = start
        while at is not None and len(keys) < limit:
            more, at = self._step(at, limit - len(keys))
            keys += more
        found = fetch_by_point(self._store, self._spec, keys)
        return DocumentPage(
            documents=tuple(found[key] for key in keys if key in found),
            cursor=None if at is None else at.written(self._order),
        )

    def _step(self, at: Position, limit: int) -> tuple[list[str], Position | None]:
        """Up to so many documents of one stage, and where to go on."""
        if self._order is None:
            return self._by_id(at, None, limit, then=None)
        if at.stage == _BEHIND:
            return self._behind(self._order, at.value, limit)
        if at.stage == _AT and at.value is not None:
            return self._by_id(at, self._order.at(at.value), limit, then=replace(at, stage=_BEHIND, point=None))
        return self._by_id(at, self._order.without(), limit, then=None)

    def _behind(self, order: Order, value: float | None, limit: int) -> tuple[list[str], Position | None]:
        some = self._scroll(None if value is None else order.after(value), limit, order_by=order.asked())[0]
        if len(some) < limit:
            return _ids(some), Position(_WITHOUT)
        last = some[-1].order_value
        return _ids([each for each in some if each.order_value != last]), Position(_AT, float(last or 0))

    def _by_id(
        self, at: Position, where: models.Filter | None, limit: int, *, then: Position | None
    ) -> tuple[list[str], Position | None]:
        some, following = self._scroll(where, limit, offset=at.point)
        return _ids(some), then if following is None else replace(at, point=str(following))

    def _scroll(self, where: models.Filter | None, limit: int, **how: Any) -> tuple[list[models.Record], Any]:
        with store_errors(self._spec.name):
            return self._store.scroll(
                self._spec.name,
                scroll_filter=first_chunks(self._where, where),
                limit=limit,
                with_payload=False,
                with_vectors=False,
                **how,
            )


def _ids(points: Sequence[models.Record]) -> list[str]:
    """Each once, since a list of values brings a point several times; those at one value by their ids, as elsewhere."""
    places = {value: place for place, value in enumerate(dict.fromkeys(point.order_value for point in points))}
    return list(
        dict.fromkeys(str(each.id) for each in sorted(points, key=lambda at: (places[at.order_value], str(at.id))))
    )
