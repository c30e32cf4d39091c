"""Which points lack a vector that their collection's points have: what a restore, a copy or another tool may leave behind.

A point without its vector is found by no search for meaning, one without its words by no search for words, and nothing fails
by it. A text without words, such as `!?`, has its words: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.store.connection import store_errors
from gristmill.store.copies import consistency
from gristmill.store.keywords import KEYWORDS
from gristmill_schemas import CollectionSpec

#: Points per request; with a vector in each, fewer.
_PAGE, _VECTOR_PAGE = 1000, 250


def vector_names(spec: CollectionSpec) -> tuple[str, ...]:
    """The vectors of each point, its words among them; the unnamed one is the default."""
    return (*spec.vectors, KEYWORDS) if spec.keyword else spec.vectors


def lacks_a_vector(spec: CollectionSpec, where: models.Condition | None = None) -> models.Filter:
    """Points that have not all of their vectors; of those that match `where`."""
    return models.Filter(should=[_lacks(name) for name in vector_names(spec)], must=where)


def without_vectors(store: QdrantClient, spec: CollectionSpec, ids: Sequence[str]) -> dict[str, list[str]]:
    """Of these points those that lack a vector, and the names of what they lack."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(ids), _PAGE):
        page = list(ids[start : start + _PAGE])
        if _any(store, spec, models.Filter(must=[models.HasIdCondition(has_id=page), lacks_a_vector(spec)])):
            for name in vector_names(spec):
                chosen = models.Filter(must=[models.HasIdCondition(has_id=page), _lacks(name)])
                for each in _ids(store, spec, chosen, len(page)):
                    found.setdefault(each, []).append(name)
    return found


def vector_of(point: models.Record, name: str) -> Any:
    """A read point's vector of this name, the empty one being the default; None where it has none."""
    return point.vector.get(name) if isinstance(point.vector, dict) else point.vector


def scroll_vectors(
    store: QdrantClient, spec: CollectionSpec, name: str, where: models.Filter | None, fields: list[str] | bool
) -> Iterator[models.Record]:
    """Every point with one of its vectors, ordered by id; of its payload these fields, or all."""
    page: Any = None
    while True:
        with store_errors(spec.name):
            points, page = store.scroll(
                spec.name,
                scroll_filter=where,
                limit=_VECTOR_PAGE,
                offset=page,
                with_payload=fields,
                with_vectors=[name],
                consistency=consistency(spec),
            )
        yield from points
        if page is None:
            return


def _lacks(name: str) -> models.Filter:
    return models.Filter(must_not=[models.HasVectorCondition(has_vector=name)])


def _any(store: QdrantClient, spec: CollectionSpec, where: models.Filter) -> bool:
    return bool(_ids(store, spec, where, 1))


def _ids(store: QdrantClient, spec: CollectionSpec, where: models.Filter, limit: int) -> list[str]:
    with store_errors(spec.physical):
        points, _ = store.scroll(
            spec.physical,
            scroll_filter=where,
            limit=limit,
            with_payload=False,
            with_vectors=False,
            consistency=consistency(spec),
        )
    return [str(point.id) for point in points]
