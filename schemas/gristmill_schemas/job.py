"""Jobs, what became of their documents, and what was refused on the way in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gristmill_schemas.document import Deletion, Document
from gristmill_schemas.errors import DocumentsFailed
from gristmill_schemas.queue.priority import Priority
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import Reason, Record

if TYPE_CHECKING:
    from typing import Self


class Outcome(StrEnum):
    """The ends that an accepted document can come to; exactly one of them does."""

    STORED = "stored"  #: written, and Qdrant has said so
    SKIPPED = "skipped"  #: the same text and metadata were there already
    SUPERSEDED = "superseded"  #: a newer version, or a newer deletion, was there already
    DELETED = "deleted"  #: a deletion of a document that was there
    ABSENT = "absent"  #: a deletion of what was not there: nothing to delete, remembered all the same
    DEAD = "dead"  #: parked among the dead letters with its reason
    CANCELLED = "cancelled"  #: its job was cancelled before anybody worked on it
    GONE = "gone"  #: its collection was deleted before it could be stored


class JobState(StrEnum):
    """Where a job stands."""

    OPEN = "open"  #: `enqueue` still hands over documents
    RUNNING = "running"  #: all handed over; some not finished
    DONE = "done"  #: every accepted document has come to its end


class WebhookState(StrEnum):
    """What became of the webhook that tells of a job's end."""

    WAITING = "waiting"  #: to be sent, or sent again
    DELIVERED = "delivered"  #: the receiver has said so
    FAILED = "failed"  #: given up, or dropped; `gristmill webhooks list` says why, `resend` tries again


class Rejection(Record):
    """One document that was never accepted."""

    #: Position in the input: index in the iterable, or line in a file.
    position: int
    #: Its id, where it could be read.
    id: str | None = None
    #: File it came from.
    source: str | None = None
    #: Field, what came, what was expected.
    reason: Reason

    def __str__(self) -> str:
        where = f"{self.source}:{self.position}" if self.source else f"document {self.position}"
        return f"{where}{f' (id {self.id!r})' if self.id else ''}: {self.reason}"


class JobReport(Record):
    """Counters of one job, which never contradict one another, whatever is killed and however often work is delivered.

    accepted = stored + skipped + superseded + deleted + absent + dead + gone + cancelled + pending, and
    chunks >= stored >= truncated, at any moment. What is counted of a document is counted once, with its end, in one atomic
    change of the ledger.
    """

    job_id: str
    collection: str
    state: JobState
    priority: Priority = Priority.NORMAL
    #: Somebody has paused it: what waits is given to no worker until it is resumed.
    paused: bool = False
    #: Whose documents all of it are; None where they are several tenants', or nobody's.
    tenant: str | None = None
    #: It was closed since its producer was silent for long: what it still had to hand over is not in it.
    abandoned: bool = False
    #: What became of its webhook, once it is done; None where `notify` was not asked for.
    webhook: WebhookState | None = None
    #: Documents and deletions that the ledger has taken.
    accepted: int = 0
    stored: int = 0
    skipped: int = 0
    superseded: int = 0
    deleted: int = 0
    absent: int = 0
    dead: int = 0
    gone: int = 0
    cancelled: int = 0
    #: Refused on the way in; never part of `accepted`.
    rejected: int = 0
    #: Tokens of the stored documents' texts; one of which only metadata changed has spent none.
    tokens: int = 0
    #: Points of the stored documents: one per chunk.
    chunks: int = 0
    #: Stored documents whose text was cut at the model's window.
    truncated: int = 0
    #: When `enqueue` began: seconds since 1970, by the ledger's clock.
    created_at: float | None = None
    #: Of those that are pending: documents that have their vectors and are being stored, as their workers say each second.
    encoded: int = 0
    #: Tokens of these.
    encoded_tokens: int = 0
    #: From the start of `enqueue` to the last finished parcel, or until now while the job runs.
    seconds: float = 0.0
    #: Why the first of its documents were rejected or died, as far as the handle that made this report knows.
    reasons: tuple[Reason, ...] = ()

    @property
    def finished(self) -> int:
        """Documents that have come to their end."""
        return sum(getattr(self, outcome) for outcome in Outcome)

    @property
    def pending(self) -> int:
        """Documents still on their way."""
        return self.accepted - self.finished

    def raise_for_failures(self) -> Self:
        """Raise if a document of the job was rejected or died; returns the report itself if not.

        Raises:
            DocumentsFailed: how many, the first reasons, and how to see the rest.
        """
        if self.rejected or self.dead:
            raise DocumentsFailed(self)
        return self

    def describe(self) -> str:
        """One line: the counters that are not zero, and what to do about failures."""
        counters = ", ".join(f"{value} {name}" for name in _COUNTERS if (value := getattr(self, name)))
        state = f"{self.state}, paused" if self.paused else self.state
        told = f"{state}: {counters or 'nothing accepted'}"
        return f"{told}; {self.how_to_see()}" if self.dead or self.rejected else told

    def describe_failures(self) -> str:
        """One line about what was rejected or died: how many, the first reasons, how to see the rest."""
        counts = ", ".join(f"{value} {name}" for name in ("rejected", "dead") if (value := getattr(self, name)))
        return "; ".join((f"job {self.job_id} in {self.collection!r}: {counts}", *self.reasons, self.how_to_see()))

    def how_to_see(self) -> str:
        """Where the whole story of the failures is."""
        told = "`job.rejections` of the handle that enqueued them lists the rejected" if self.rejected else ""
        if not self.dead:
            return told
        listed = f"client.dead.list(job={self.job_id!r}) or `gristmill dead list --job {self.job_id}`"
        return f"{told}; {listed} lists the dead" if told else f"{listed} lists the dead"

    def __repr__(self) -> str:
        return f"<JobReport {self.job_id} in {self.collection!r}: {self.describe()}>"

    def __str__(self) -> str:
        return repr(self)


_COUNTERS = ("accepted", *Outcome, "pending", "rejected", "truncated")


class JobFinished(Stored):
    """The body of a webhook: a job is done. Counters and names of its collection and tenant; no text, and no reason."""

    KIND: ClassVar[str] = "webhook"

    type: Literal["job.finished"] = "job.finished"
    #: When the job was done, by the ledger's clock.
    timestamp: datetime
    #: The job as it ended.
    data: JobReport

    def body(self) -> str:
        """What is signed and sent: the same for every attempt."""
        return self.model_dump_json(exclude={"data": {"reasons", "webhook", "encoded", "encoded_tokens"}})


class Webhook(Record):
    """A webhook that is not delivered: to be sent, to be sent again, or given up."""

    #: The header `webhook-id` of every attempt.
    id: str
    job_id: str
    collection: str
    #: Scheme, host and port; the rest of a URL may hold a secret, and is shown nowhere.
    origin: str
    state: WebhookState
    #: Since it was queued, or resent by hand.
    attempts: int = Field(ge=0)
    #: When its job was done.
    created_at: float
    #: When it is sent again; None where it was given up.
    next_attempt_at: float | None = None
    #: Why the last attempt came to nothing.
    error: Reason = ""


class DeadLetter(Stored):
    """A document that could not be stored, with all that is needed to understand it and to try again."""

    KIND: ClassVar[str] = "dead letter"

    id: str
    job_id: str
    #: The name that was asked for, and the key of the collection it meant (`CollectionSpec.key`).
    collection: str
    collection_key: str = ""
    model_digest: str
    #: What died; None where it could not be read, or once its text has been forgotten.
    document: Document | None = None
    deletion: Deletion | None = None
    #: Id and tenant of a document whose text has been forgotten.
    document_id: str | None = None
    tenant: str | None = None
    version: int
    #: Class of the error, such as `EncodingFailed`.
    error: str
    reason: Reason
    attempts: int = Field(ge=0)
    enqueued_at: float
    died_at: float

    @property
    def item(self) -> Document | Deletion | None:
        """What can be handed over again; None where nobody could read it, or once its text has been forgotten."""
        return self.document or self.deletion

    @property
    def identity(self) -> tuple[str | None, str | None]:
        """Id and tenant of what died, with or without its text; the id is None where nobody could read it."""
        item = self.item
        return (self.document_id, self.tenant) if item is None else (item.id, item.tenant)


class DeadGroup(Record):
    """The dead letters of one collection that died of one error."""

    #: The name that was asked for.
    collection: str
    #: Class of the error, such as `EncodingFailed`.
    error: str
    letters: int = Field(ge=0)
    #: When the newest of them died, and of what; None and empty where a newer Gristmill wrote it.
    newest_died_at: float | None = None
    reason: Reason = ""


class DeadSummary(Record):
    """All dead letters by what they died of, and how much of Redis's memory they take."""

    #: The largest first.
    groups: tuple[DeadGroup, ...] = ()
    letters: int = Field(0, ge=0)
    bytes: int = Field(0, ge=0)
    #: The mark, GRISTMILL_DEAD_MAX_BYTES: at it workers take no more work.
    max_bytes: int = Field(gt=0)

    @property
    def share(self) -> float:
        """Part of the mark that is taken; 1 and more where workers stop."""
        return self.bytes / self.max_bytes


class ReceiptState(StrEnum):
    """Where a document stands: the fate of the newest version that is known."""

    STORED = "stored"  #: Qdrant holds it
    PENDING = "pending"  #: accepted, and on its way
    DEAD = "dead"  #: among the dead letters
    DELETED = "deleted"  #: deleted, and the deletion is still remembered
    LOST = "lost"  #: accepted, and nowhere: `gristmill audit` says more
    UNKNOWN = "unknown"  #: nothing is known of it


class Receipt(Record):
    """What became of one document, as far as ledger and store know."""

    collection: str
    id: str
    tenant: str | None = None
    state: ReceiptState
    #: Version that the state is about.
    version: int | None = None
    #: Version that Qdrant holds; an older one may still be searched while a newer one is pending or dead.
    stored_version: int | None = None
    fingerprint: str | None = None
    truncated: bool = False
    #: Points that it was cut into.
    chunks: int | None = None
    #: Tokens that its job has encoded for it, under all lenses together; 0 where only its metadata changed.
    tokens: int | None = None
    #: Document instructions that it is encoded under beside its plain vector, by lens.
    lenses: dict[str, str] = Field(default_factory=dict)
    attempts: int | None = None
    job_id: str | None = None
    enqueued_at: float | None = None
    stored_at: float | None = None
    point_ids: tuple[str, ...] = ()
    #: Why it is dead, or what to do.
    reason: Reason | None = None
