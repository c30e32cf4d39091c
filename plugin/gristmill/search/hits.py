"""Points that Qdrant has found, read as hits; those that are not ours are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gristmill.store.found_points import FoundPoint, Origin
from gristmill.store.points import Foreign, read_content, span_of
from gristmill_schemas import CollectionSpec, FoundChunk, SearchHit
from gristmill_schemas.errors import SpaceMismatch


class OutOfDate(SpaceMismatch):
    """What was found is not of the collection that was remembered."""


def first_foreign(points: Iterable[FoundPoint]) -> Foreign | None:
    """Why a point is not ours, if there is one."""
    return next((point.origin for point in points if isinstance(point.origin, Foreign)), None)


def hits_of(
    spec: CollectionSpec,
    points: Iterable[FoundPoint],
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
    read = [(point, point.origin) for point in points if isinstance(point.origin, Origin)]
    fitting = [(point, origin) for point, origin in read if origin.space == spec.fingerprint]
    if (read and not fitting) or (
        not certain and (len(fitting) < len(read) or (texts and not _texts_there(spec, read)))
    ):
        raise OutOfDate(
            f"collection {spec.name!r}: its points are not of its space {spec.fingerprint}; `gristmill audit` "
            "shows which are",
            collection=spec.name,
        )
    like = _blank(applied)
    return [_hit(spec, point, origin, like) for point, origin in fitting]


def _texts_there(spec: CollectionSpec, read: Sequence[tuple[FoundPoint, Origin]]) -> bool:
    return all(spec.text_key in point.payload for point, _ in read)


def _hit(spec: CollectionSpec, point: FoundPoint, origin: Origin, like: SearchHit) -> SearchHit:
    content, metadata = read_content(spec, point.payload)
    fields = {
        "id": origin.id,
        "score": point.score,
        "text": content,
        "metadata": metadata,
        "tenant": origin.tenant,
        "version": origin.version,
        "chunk": origin.chunk,
        "chunks": origin.chunks,
        "span": span_of(spec, origin.span, point.payload),
        "context": origin.context,
        "point_id": str(point.id),
    }
    return _made(like, fields)


def _made(like: SearchHit, fields: Mapping[str, Any]) -> SearchHit:
    """`like.model_copy(update=fields)` at a third of its price: what never changes is shared, and not copied."""
    hit = SearchHit.__new__(SearchHit)
    object.__setattr__(hit, "__dict__", {**like.__dict__, **fields})
    object.__setattr__(hit, "__pydantic_fields_set__", like.__pydantic_fields_set__)
    object.__setattr__(hit, "__pydantic_extra__", None)
    object.__setattr__(hit, "__pydantic_private__", None)
    return hit


def _blank(applied: Mapping[str, Any]) -> SearchHit:
    """A hit that says how it was found, and not yet what; every field that `_hit` gives counts as given."""
    nothing = {"tenant": None, "chunk": 0, "chunks": 1, "context": ""}
    return SearchHit(id="", score=0.0, text="", metadata={}, version=0, span=(0, 0), point_id="", **nothing, **applied)


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
