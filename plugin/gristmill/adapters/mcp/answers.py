"""What the tools answer, as records with a schema, bounded in size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, Field

from gristmill_schemas import CollectionSpec, SearchHit
from gristmill_schemas.document import canonical_json

#: An id and a score count for something, too.
_FRAME = 64


class FoundDocument(BaseModel):
    """One hit: a document, or the part of a long one that was found."""

    id: str
    score: float
    text: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    #: Where the text begins and ends in its document, in characters; None where it is all of it.
    part: tuple[int, int] | None = None
    #: Whether text or metadata were cut to keep the answer short.
    cut: bool = False


class Found(BaseModel):
    """Hits, best first."""

    collection: str
    hits: list[FoundDocument]
    #: What to do about an answer that was cut, or is empty.
    note: str | None = None


class KnownCollection(BaseModel):
    """What a client has to know of a collection to ask it."""

    name: str
    documents: int
    model: str
    #: Modes that `find` takes.
    modes: list[str]
    #: Other views of the same documents, each searched by its name as `lens`.
    lenses: list[str]
    #: Registered names that `find` takes as `instruction`, with what they say.
    instructions: dict[str, str]
    #: Metadata fields that `where` filters quickly by, with their types.
    fields: dict[str, str]


class KnownCollections(BaseModel):
    """All collections of this server."""

    collections: list[KnownCollection]


class Stored(BaseModel):
    """What became of a document that was handed over."""

    collection: str
    id: str
    #: `stored`, `skipped` (it was there, unchanged), `superseded` (a newer version of it was there), `gone` (its collection
    #: was deleted meanwhile) or `cancelled`.
    state: str


def found(collection: str, hits: Iterable[SearchHit], most_characters: int) -> Found:
    """Hits within so many characters: the best have theirs whole, the last are cut or left out, and that is said."""
    shown, left, more = [], most_characters, 0
    for hit in hits:
        if left < 2 * _FRAME:
            more += 1
            continue
        document = _fitted(hit, left)
        left -= _FRAME + len(document.text) + _size(document.metadata)
        shown.append(document)
    return Found(collection=collection, hits=shown, note=_note(shown, more))


def _fitted(hit: SearchHit, left: int) -> FoundDocument:
    text = hit.text if hit.passage is None else hit.passage
    span = hit.span if hit.passage_span is None else hit.passage_span
    metadata = hit.metadata if _size(hit.metadata) <= left // 2 else {}
    room = max(0, left - _FRAME - _size(metadata))
    return FoundDocument(
        id=hit.id,
        score=round(hit.score, 6),
        text=text[:room],
        metadata=metadata,
        part=span if hit.chunks > 1 else None,
        cut=len(text) > room or metadata is not hit.metadata,
    )


def _size(metadata: dict[str, Any]) -> int:
    return len(canonical_json(metadata).decode()) if metadata else 0


def _note(shown: list[FoundDocument], more: int) -> str | None:
    if not shown:
        return "nothing was found: try other words, mode='hybrid', or no filter"
    if not more and not any(each.cut for each in shown):
        return None
    left = f"; {more} more were left out" if more else ""
    return f"cut to keep the answer short{left}: ask for fewer by `limit`, or more precisely by `where`"


def known(spec: CollectionSpec, documents: int, fields: Iterable[tuple[str, str]]) -> KnownCollection:
    """A collection, as a client has to know it."""
    return KnownCollection(
        name=spec.name,
        documents=documents,
        model=spec.space.model,
        modes=list(_modes(spec)),
        lenses=[lens.name for lens in spec.lenses],
        instructions={each.name: each.text for each in spec.instructions},
        fields=dict(fields),
    )


def _modes(spec: CollectionSpec) -> Iterator[str]:
    yield "dense"
    if spec.keyword:
        yield from ("keyword", "hybrid")
