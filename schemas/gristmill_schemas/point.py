"""How a document lies in Qdrant: its point ids and the system part of the payload.

payload = {**metadata, <text_key>: chunk text, "_gristmill": PointSystem}
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import SYSTEM_KEY

#: Namespace of all point ids. Never change it: ids are how redelivered work finds what it wrote before.
POINT_NAMESPACE = uuid.UUID("6f1d9d3e-6a3c-5d0e-9a55-0d4f0a3c7b11")

_NAMESPACE = POINT_NAMESPACE.bytes
#: RFC 9562's variant: the two highest bits of the ninth byte are 10.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def point_id(document_id: str, tenant: str | None, chunk: int = 0) -> str:
    """The same document and chunk get the same id, always: that is what makes every write idempotent.

    The tenant's length goes first, so that no two (tenant, id) pairs share a name. This is
    `uuid5(POINT_NAMESPACE, "<length>:<tenant><id>#<chunk>")` without the objects: a fifth of the time, on a path that asks
    for several ids per document.
    """
    owner = tenant or ""
    name = f"{len(owner)}:{owner}{document_id}#{chunk}"
    h = hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def under_context(context: str | None, text: str) -> str:
    """A chunk below what stands above it in its document: so it is encoded, searched for its words, and reranked."""
    return f"{context}\n\n{text}" if context else text


def etag_of(key: str, text_hash: str, metadata_hash: str) -> str:
    """128 bits over a document's key (point id of chunk 0) and content: no other document or content shares it."""
    return hashlib.sha256(f"{key}:{text_hash}:{metadata_hash}".encode()).hexdigest()[:32]


class PointSystem(Stored):
    """The part of the payload that belongs to Gristmill, under the key `_gristmill`.

    Every field costs Qdrant and both clients on every point, so each names who reads it. What is at its default is not
    written. Of a document's content there is the text's hash, and the etag over text and metadata: together they tell
    whether only the metadata has changed.
    """

    KIND: ClassVar[str] = "point"

    #: Document id and tenant, as enqueued. Read by search, audit, erasure; filtered by in deletes.
    id: str
    tenant: str | None = None
    #: Read by the fence, audits, receipts; filtered by in every write.
    version: int
    #: Filtered by when documents are counted: each has one chunk 0. Read by whatever puts documents together.
    chunk: int
    chunks: int = 1
    #: Characters of the document's text in this chunk: [start, end). None: all of it. Read by search, `get`, repairs.
    span: tuple[int, int] | None = None
    #: What stood above the chunk where the model read it: title or headings. Read by search, and where its words are made.
    context: str = ""
    #: Of what the vectors are made (`Chunking.text_hash`). Read by the fence: is the text the same?
    text_hash: str
    #: Document and content in one value (`etag_of`). Read by fence and audit; what an update of an unchanged document is
    #: conditional on.
    etag: str
    #: Fingerprint of the vector space, and of the lenses where there are any (`CollectionSpec.fingerprint`). Read by the
    #: fence, by every search, by audits.
    space: str
    #: Read by the fence (who stored this version?) and by receipts.
    job: str
    #: Seconds since 1970. Read by receipts.
    stored_at: float
    #: Whether the text was cut at the model's window. Read by receipts.
    truncated: bool = False
    #: Tokens that the job has encoded for the document; none where only its metadata changed. Read by the job's counters.
    tokens: int = 0
    #: Times its parcel was tried until it was stored. Read by receipts.
    attempts: int = 1

    def varied(self, fields: Mapping[str, Any]) -> PointSystem:
        """A copy with other values, none of them checked: `model_copy` at less than half, once for each point."""
        other = _new(PointSystem)
        _set(other, "__dict__", {**self.__dict__, **fields})
        _set(other, "__pydantic_fields_set__", _NAMES)
        _set(other, "__pydantic_extra__", None)
        _set(other, "__pydantic_private__", None)
        return other


_new, _set = object.__new__, object.__setattr__
_NAMES = set(PointSystem.model_fields)

#: Payload paths of the fields that filters use.
VERSION_PATH = f"{SYSTEM_KEY}.version"
ID_PATH = f"{SYSTEM_KEY}.id"
TENANT_PATH = f"{SYSTEM_KEY}.tenant"
ETAG_PATH = f"{SYSTEM_KEY}.etag"
CHUNK_PATH = f"{SYSTEM_KEY}.chunk"
JOB_PATH = f"{SYSTEM_KEY}.job"
