"""The unit of work: a parcel of documents, and its one codec.

A parcel lives once, compressed, in the ledger; the broker's message says only that there is work. Wire form: zlib over
the record's JSON. JSON, because a forged message must never be able to run code; zlib, because it is in every Python.
"""

from __future__ import annotations

import itertools
import zlib
from typing import Annotated, ClassVar

from pydantic import Field

from gristmill_schemas.document import Deletion, Document
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import MAX_PARCEL_DOCUMENTS, MAX_PARCEL_INFLATED_BYTES
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import Identifier, Version


class Parcel(Stored):
    """Some documents (or deletions) of one job, for one collection: see `limits` for how many."""

    KIND: ClassVar[str] = "parcel"

    #: Unique, and stable over retries of the producer: `<job>.<sequence number>`, with `.<n>` per split.
    id: Identifier
    job_id: Identifier
    #: The name that was asked for: the documents go to what it means when they are written.
    collection: Identifier
    #: Key of the collection that it meant when they were enqueued (`CollectionSpec.key`): theirs is the roster.
    collection_key: str = Field(default_factory=lambda known: known.get("collection", ""))
    #: Digest of the model that encodes it; names the queue, so that only workers with this model see the parcel. Without
    #: a colon, which parts the names in the ledger's keys.
    model_digest: Annotated[Identifier, Field(pattern="^[^:]+$")]
    documents: tuple[Document, ...] = Field(default=(), max_length=MAX_PARCEL_DOCUMENTS)
    deletions: tuple[Deletion, ...] = Field(default=(), max_length=MAX_PARCEL_DOCUMENTS)
    #: Version of every item that brings none: the time of `enqueue`, in microseconds since 1970.
    version: Version
    #: Seconds since 1970.
    enqueued_at: float

    def __len__(self) -> int:
        return len(self.documents) + len(self.deletions)

    @property
    def items(self) -> tuple[Document | Deletion, ...]:
        """Everything in it."""
        return (*self.documents, *self.deletions)

    @property
    def tokens(self) -> int:
        """How much work it is, as estimated: queues are measured by it, and shared fairly."""
        return sum(item.tokens for item in self.items)

    @property
    def tenant(self) -> str | None:
        """Whose everything in it is; None where it is several tenants', or nobody's."""
        owners = {item.tenant for item in self.items}
        return owners.pop() if len(owners) == 1 else None

    def version_of(self, item: Document | Deletion) -> int:
        """The item's own version, or the parcel's where it brings none."""
        return self.version if item.version is None else item.version

    def split(self, parts: int | None = None) -> list[Parcel]:
        """So many parcels of about as many items each; one per item where that is not said, or there are not so many."""
        size, count = len(self), min(parts or len(self), len(self))
        cuts = [size * n // count for n in range(count + 1)] if count else [0]
        first = len(self.documents)
        return [
            self.model_copy(
                update={
                    "id": f"{self.id}.{n}",
                    "documents": self.documents[start:end],
                    "deletions": self.deletions[max(0, start - first) : max(0, end - first)],
                }
            )
            for n, (start, end) in enumerate(itertools.pairwise(cuts))
        ]


class Intent(Stored):
    """Documents that one claim is about to write. Whoever dies in between leaves it behind (`docs/explanation/fence.md`)."""

    KIND: ClassVar[str] = "intent"

    #: The claim's token, and its parcel.
    token: str
    parcel_id: str
    #: Name of the physical collection, and its key (`CollectionSpec.key`).
    collection: str
    key: str
    job_id: str = ""
    #: Id and tenant of each. Pairs and no records: one of these is written for every parcel, and hardly ever read.
    documents: tuple[tuple[str, str | None], ...]
    #: Etag and version that each will have.
    contents: tuple[tuple[str, int], ...] = ()


class Retraction(Stored):
    """What a claim may still write of a tenant that has been erased, and is to be taken back. It names nobody."""

    KIND: ClassVar[str] = "retraction"

    id: str
    #: Of the claim.
    token: str
    #: Name of the physical collection, and its key (`CollectionSpec.key`).
    collection: str
    key: str
    #: By this the points are told from those of the same content that somebody else has stored since.
    job_id: str
    #: Etag and version of each document.
    contents: tuple[tuple[str, int], ...]


def pack(parcel: Parcel) -> bytes:
    """Encode a parcel for the ledger."""
    return zlib.compress(parcel.model_dump_json().encode(), level=1)


def unpack(body: bytes) -> Parcel:
    """Decode and validate a parcel from the ledger.

    Raises:
        NewerFormat: a newer Gristmill packed it: leave it to a worker that can read it.
        InvalidInput: the bytes are no parcel, or inflate beyond what any valid parcel can hold.
    """
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(body, MAX_PARCEL_INFLATED_BYTES)
    except zlib.error as error:
        raise InvalidInput(f"parcel body: expected zlib data, got {body[:16]!r} ({error})") from error
    if inflater.unconsumed_tail:
        raise InvalidInput(f"parcel body: inflates to more than {MAX_PARCEL_INFLATED_BYTES} bytes")
    return Parcel.read_json(text)
