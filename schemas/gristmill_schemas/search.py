"""What a search gives back."""

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
