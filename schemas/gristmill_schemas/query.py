"""Query encoding on the wire: what a client puts into the worker's query queue.

The answer is not JSON: `gristmill.search.query_vectors` packs raw float32.
"""

from __future__ import annotations

from pydantic import Field

from gristmill_schemas.validation import CleanText, Identifier, Record


class QueryRequest(Record):
    """Texts to encode, templates already applied."""

    #: Redis list that the answer is pushed to.
    reply_to: Identifier
    #: Model whose vectors the caller expects; a worker with another one refuses.
    model_digest: Identifier
    dimensions: int = Field(gt=0)
    normalize: bool = True
    texts: tuple[CleanText, ...] = Field(min_length=1, max_length=256)
    #: Seconds since 1970 after which nobody waits for the answer any more.
    deadline: float
