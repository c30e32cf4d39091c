"""Points that Qdrant has found, read as hits; those that are not ours are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qdrant_client import models

from gristmill.store.points import Foreign, read_content, read_point, span_of
from gristmill_schemas import CollectionSpec, FoundChunk, PointSystem, SearchHit
from gristmill_schemas.errors import SpaceMismatch

#: A point, and what it says of itself.
ReadPoint = tuple[models.ScoredPoint, PointSystem | Foreign]


class OutOfDate(SpaceMismatch):
    """What was found is not of the collection that was remembered."""


def read_points(points: Iterable[models.ScoredPoint]) -> list[ReadPoint]:
    """Each point with what it says of itself."""
    return [(point, read_point(point)) for point in points]


def first_foreign(points: Iterable[ReadPoint]) -> Foreign | None:
    """A point that is not ours, if there is one."""
    return next((read for _, read in points if isinstance(read, Foreign)), None)


def hits_of(
    spec: CollectionSpec,
    points: Iterable[ReadPoint],
    applied: Mapping[str, Any],
    certain: bool,
    *,
    texts: bool = True,
) -> list[SearchHit]:
    """The points as hits, without those that are not ours.

    Args:
        spec: the collection, as it is remembered.
        points: what Qdrant has found.
        applied: what the hits say of how they were found.
        certain: `spec` has just been asked for, so a point of another space is a stray one.
        texts: whether texts were asked for.

    Raises:
        OutOfDate: a point is not of this collection, or none is.
    """
    read = [(point, system) for point, system in points if isinstance(system, PointSystem)]
    fitting = [(point, system) for point, system in read if system.space == spec.fingerprint]
    if (read and not fitting) or (
        not certain and (len(fitting) < len(read) or (texts and not _texts_there(spec, read)))
    ):
        raise OutOfDate(
            f"collection {spec.name!r}: its points are not of its space {spec.fingerprint}; `gristmill audit` "
            "shows which are",
            collection=spec.name,
        )
    return [_hit(spec, point, system, applied) for point, system in fitting]


def _texts_there(spec: CollectionSpec, read: Sequence[tuple[models.ScoredPoint, PointSystem]]) -> bool:
    return all(spec.text_key in (point.payload or {}) for point, _ in read)


def _hit(spec: CollectionSpec, point: models.ScoredPoint, system: PointSystem, applied: Mapping[str, Any]) -> SearchHit:
    payload = point.payload or {}
    content, metadata = read_content(spec, payload)
    return SearchHit(
        id=system.id,
        score=point.score,
        text=content,
        metadata=metadata,
        tenant=system.tenant,
        version=system.version,
        chunk=system.chunk,
        chunks=system.chunks,
        span=span_of(spec, system, payload),
        context=system.context,
        point_id=str(point.id),
        **applied,
    )


def by_document(hits: Iterable[SearchHit], chunks: int) -> list[SearchHit]:
    """The best of each document, with so many of its best chunks: while it is replaced, it has chunks of two contents."""
    found: dict[tuple[str | None, str], list[SearchHit]] = {}
    for hit in hits:
        found.setdefault((hit.tenant, hit.id), []).append(hit)
    if chunks == 1:
        return [several[0] for several in found.values()]
    return [
        several[0].model_copy(update={"best_chunks": tuple(map(_chunk, several[:chunks]))})
        for several in found.values()
    ]


def _chunk(hit: SearchHit) -> FoundChunk:
    return FoundChunk(chunk=hit.chunk, score=hit.score, text=hit.text, span=hit.span)
