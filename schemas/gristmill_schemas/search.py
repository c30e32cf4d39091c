"""What reading a collection gives back: hits of a search, and documents by their ids."""

from __future__ import annotations

from typing import Any

from gristmill_schemas.validation import Record


class SearchHit(Record):
    """One hit: a document, or one chunk of it."""

    #: The document's id, as it was enqueued.
    id: str
    #: Similarity by the collection's distance; comparable within one search only.
    score: float
    text: str
    metadata: dict[str, Any]
    tenant: str | None = None
    version: int
    #: Number of this chunk and of all chunks of the document; `0` of `1` where it was not cut.
    chunk: int = 0
    chunks: int = 1
    #: Characters of the document's text that this chunk covers: [start, end).
    span: tuple[int, int]
    #: The instruction the query was encoded with: its text, or `name@version` of a registered one.
    instruction: str | None = None
    #: Qdrant's point id.
    point_id: str


class StoredDocument(Record):
    """One document as Qdrant holds it, put together from its chunks."""

    #: Its id and tenant, as it was enqueued.
    id: str
    #: The whole text.
    text: str
    metadata: dict[str, Any]
    tenant: str | None = None
    version: int
    #: Points that it was cut into.
    chunks: int = 1
    #: False where chunks are missing or of another version, and the text is what is left: see `gristmill audit --repair`.
    whole: bool = True
