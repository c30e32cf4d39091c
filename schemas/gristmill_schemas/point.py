"""How a document lies in Qdrant: its point ids and the system part of the payload.

payload = {**metadata, <text_key>: chunk text, "_gristmill": PointSystem}
"""

from __future__ import annotations

import hashlib
import uuid
from typing import ClassVar

from pydantic import Field

from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import SYSTEM_KEY

#: Namespace of all point ids. Never change it: ids are how redelivered work finds what it wrote before.
POINT_NAMESPACE = uuid.UUID("6f1d9d3e-6a3c-5d0e-9a55-0d4f0a3c7b11")


def point_id(document_id: str, tenant: str | None, chunk: int = 0) -> str:
    """The same document and chunk get the same id, always: that is what makes every write idempotent.

    The tenant's length goes first, so that no two (tenant, id) pairs share a name.
    """
    owner = tenant or ""
    return str(uuid.uuid5(POINT_NAMESPACE, f"{len(owner)}:{owner}{document_id}#{chunk}"))


def etag_of(key: str, text_hash: str, metadata_hash: str) -> str:
    """128 bits over a document's key (point id of chunk 0) and content: no other document or content shares it."""
    return hashlib.sha256(f"{key}:{text_hash}:{metadata_hash}".encode()).hexdigest()[:32]


class PointSystem(Stored):
    """The part of the payload that belongs to Gristmill, under the key `_gristmill`."""

    KIND: ClassVar[str] = "point"

    #: Document id and tenant, as enqueued.
    id: str
    tenant: str | None = None
    version: int
    chunk: int = 0
    chunks: int = 1
    #: Characters of the document's text in this chunk: [start, end).
    span: tuple[int, int]
    text_hash: str
    metadata_hash: str
    #: Document and content in one value (`etag_of`): what an update of an unchanged document is conditional on.
    etag: str
    #: Fingerprint of the vector space.
    space: str
    #: Tokens of the whole document, after templates.
    tokens: int
    truncated: bool = False
    job: str
    attempts: int = Field(default=1)
    enqueued_at: float
    stored_at: float


#: Payload paths of the fields that filters use.
VERSION_PATH = f"{SYSTEM_KEY}.version"
ID_PATH = f"{SYSTEM_KEY}.id"
TENANT_PATH = f"{SYSTEM_KEY}.tenant"
ETAG_PATH = f"{SYSTEM_KEY}.etag"
CHUNK_PATH = f"{SYSTEM_KEY}.chunk"
JOB_PATH = f"{SYSTEM_KEY}.job"
