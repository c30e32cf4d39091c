"""Reading the system part of points: by scroll and by id, without vectors and texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from qdrant_client import QdrantClient, models

from gristmill.store.connection import store_errors
from gristmill_schemas import PointSystem, point_id
from gristmill_schemas.validation import SYSTEM_KEY, explain

#: Points per request.
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """One point."""

    id: str
    #: Our part of its payload, or None for a point that is not ours.
    system: PointSystem | None
    #: Why it is not ours.
    problem: str = ""


def scroll(store: QdrantClient, collection: str, where: models.Filter | None = None) -> Iterator[list[Seen]]:
    """Every point, page by page, ordered by id; points that come and go meanwhile may or may not be seen."""
    page: Any = None
    while True:
        with store_errors(collection):
            points, page = store.scroll(
                collection, scroll_filter=where, limit=PAGE, offset=page, with_payload=[SYSTEM_KEY], with_vectors=False
            )
        yield [_seen(point) for point in points]
        if page is None:
            return


def look_up(store: QdrantClient, collection: str, ids: Sequence[str]) -> dict[str, Seen]:
    """The given points; absent ones are absent."""
    found: dict[str, Seen] = {}
    for start in range(0, len(ids), PAGE):
        with store_errors(collection):
            points = store.retrieve(
                collection, ids=list(ids[start : start + PAGE]), with_payload=[SYSTEM_KEY], with_vectors=False
            )
        found |= {str(point.id): _seen(point) for point in points}
    return found


def _seen(point: models.Record) -> Seen:
    raw = (point.payload or {}).get(SYSTEM_KEY)
    if raw is None:
        return Seen(str(point.id), None, f"its payload has no {SYSTEM_KEY!r}: something else wrote it")
    try:
        system = PointSystem.model_validate(raw)
    except ValidationError as error:
        return Seen(str(point.id), None, f"{SYSTEM_KEY}: {explain(error)}")
    if point_id(system.id, system.tenant, system.chunk) != str(point.id):
        return Seen(str(point.id), None, f"it says that it is chunk {system.chunk} of {system.id!r}, under another id")
    return Seen(str(point.id), system)
