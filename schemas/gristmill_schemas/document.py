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
