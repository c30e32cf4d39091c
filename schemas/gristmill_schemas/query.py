"""Query encoding on the wire: what a client puts into the worker's query queue and what comes back.

The request is JSON; the answer is one status byte and, on success, raw little-endian float32: (texts, dimensions).
"""

from __future__ import annotations

from pydantic import Field

from gristmill_schemas.limits import MAX_QUERY_BYTES
from gristmill_schemas.validation import CleanText, Identifier, Record


class QueryRequest(Record):
    """Texts to encode, templates already applied."""

    reply_to: Identifier
    #: Fingerprint of the space the caller expects; the worker refuses a request for another.
    model_digest: Identifier
    dimensions: int = Field(gt=0)
    texts: tuple[CleanText, ...] = Field(min_length=1, max_length=256)
    #: Seconds since 1970 after which nobody waits for the answer any more.
    deadline: float


__all__ = ["MAX_QUERY_BYTES", "QueryRequest"]
