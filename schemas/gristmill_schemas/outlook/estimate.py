"""What a job would become, told before it is handed over. Counters have the names that they have in `JobReport`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from gristmill_schemas.job import Rejection
from gristmill_schemas.validation import Reason, Record


class RateSource(StrEnum):
    """Where an estimate's tokens per second come from."""

    GIVEN = "given"  #: by whoever asked
    MEASURED = "measured"  #: just now: living workers encoded a sample of these very texts
    WORKERS = "workers"  #: living workers say what they have reached
    JOBS = "jobs"  #: the fastest of the collection's latest finished jobs


class StoreBytes(Record):
    """What Qdrant would keep of the documents, by a formula (`docs/howto/estimates.md`), all copies counted."""

    #: Vectors as they are, lenses included, and their quantized form.
    vectors: int = 0
    #: The graphs over them (HNSW).
    graphs: int = 0
    #: Texts, metadata and our own part.
    payloads: int = 0
    #: The index of words.
    keywords: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.vectors + self.graphs + self.payloads + self.keywords


class Estimate(Record):
    """What would become of documents, were they enqueued now. Nothing has been written anywhere."""

    collection: str
    #: Whether it exists; else it is what `create_collection` would make of it.
    exists: bool
    model: str
    #: Documents that would be accepted: stored + skipped + superseded + dead.
    accepted: int = 0
    #: Would be written, or their metadata would.
    stored: int = 0
    #: Are there already, with the same text and metadata.
    skipped: int = 0
    #: Are there already in a newer version, or were deleted by one.
    superseded: int = 0
    #: Would go to the dead letters; `deaths` says why.
    dead: int = 0
    #: Would be refused on the way in; `rejections` says why.
    rejected: int = 0
    #: Of the rejected: those whose id came before in the same input.
    duplicates: int = 0
    #: Of the accepted: those whose text another document before them has, too. They are encoded all the same.
    repeated_texts: int = 0
    #: Tokens of the stored documents that would go through the model, under all lenses together.
    tokens: int = 0
    #: Points of the stored documents: one per chunk.
    chunks: int = 0
    #: Stored documents whose text would be cut at the model's window.
    truncated: int = 0
    #: Why tokens, chunks and what is cut are estimated; None where they are counted as the workers count them.
    inexact: Reason | None = None
    #: From the start of `enqueue` until all is stored, while nothing else is waiting; None where no rate is known.
    seconds: float | None = Field(None, ge=0)
    #: Of all workers of this model together.
    tokens_per_s: float | None = Field(None, gt=0)
    rate_source: RateSource | None = None
    #: Workers that serve the model now.
    workers: int = 0
    #: What Qdrant would keep of them; None for its local mode.
    store_bytes: StoreBytes | None = None
    #: What they would take of Redis's memory, were all of them waiting at once. `enqueue` waits at the high-water mark.
    queue_bytes: int = 0
    #: Why the first of them would be rejected.
    rejections: tuple[Rejection, ...] = ()
    #: Why the first of them would die.
    deaths: tuple[Rejection, ...] = ()
