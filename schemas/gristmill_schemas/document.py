"""What applications hand over: documents, and deletions of documents.

Identity: a document is (collection, tenant, id). Order: of two writes of one document the higher `version` wins, and of
a write and a deletion likewise; the order in which they are processed does not matter.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field

from gristmill_schemas.validation import DocumentText, Identifier, Metadata, Record, Version

#: Of a document or a deletion beside what is in it.
_FRAME_BYTES = 64


class Document(Record):
    """One document to embed and store."""

    #: Yours, unique within collection and tenant. Integers become strings. The same id again means an update.
    id: Identifier
    #: What is embedded; stored in the payload too, so that hits can show it.
    text: DocumentText
    #: Any JSON object; stored at the payload's top level, so plain Qdrant filters see it.
    metadata: Metadata = Field(default_factory=dict)
    #: Whose document this is, in collections shared by many tenants. Part of the identity.
    tenant: Identifier | None = None
    #: Orders the writes of one document: the highest wins. None means the time of enqueueing, in microseconds.
    version: Version | None = None

    @property
    def tokens(self) -> int:
        """How many the text comes to by an estimate that asks no model: see `estimated_tokens`."""
        return estimated_tokens(self.text)

    @property
    def size(self) -> int:
        """Bytes that it comes to on its way, about: its text in UTF-8, its metadata, and 64.

        The JSON of metadata is counted by its Python text: close enough to bound a parcel, and it costs next to nothing.
        """
        return len(self.text.encode()) + len(str(self.metadata)) + _FRAME_BYTES

    @property
    def text_hash(self) -> str:
        """128 bits of the text's SHA-256, in hex: equal hash means the text need not be encoded again."""
        return text_hash(self.text)

    @property
    def metadata_hash(self) -> str:
        """128 bits of the canonical metadata's SHA-256, in hex."""
        return hash_of(canonical_json(self.metadata))


class Deletion(Record):
    """One document to remove."""

    id: Identifier
    tenant: Identifier | None = None
    #: Everything of this document up to and including this version goes. None means the time of the call.
    version: Version | None = None

    @property
    def tokens(self) -> int:
        """There is no text; it is work all the same."""
        return 1

    @property
    def size(self) -> int:
        """Bytes that it comes to on its way, about."""
        return _FRAME_BYTES


def estimated_tokens(text: str) -> int:
    """About how many tokens a text comes to, whatever the model: a quarter of its bytes in UTF-8, at least 1.

    English takes some four bytes per token; of Chinese a character takes three, and comes to some three quarters of one.
    """
    return max(1, len(text.encode()) // 4)


def text_hash(text: str) -> str:
    """128 bits of a text's SHA-256, in hex."""
    return hash_of(text.encode())


def hash_of(content: bytes) -> str:
    """128 bits of the SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()[:32]


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no white space, in UTF-8: equal values give equal bytes."""
    return _CANONICAL.encode(value).encode()


# Made once: `json.dumps` makes one per call, which costs three times what the metadata of most documents do.
_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
