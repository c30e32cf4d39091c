"""What an audit finds: where the documents that were accepted and those that Qdrant holds differ; and refused messages."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import Reason, Record


class Gap(StrEnum):
    """What can be wrong with one document, or one point."""

    MISSING = "missing"  #: accepted, and nothing of it is there
    STALE = "stale"  #: an older version is there, or another content
    INCOMPLETE = "incomplete"  #: some of its chunks are not there, or not of its version
    WRONG_SPACE = "wrong_space"  #: its vectors are of another space or other lenses than the collection's
    VECTORLESS = (
        "vectorless"  #: a point without one of its vectors, or without its words in a collection that keeps them
    )
    LEFTOVER = "leftover"  #: a chunk that its document no longer has
    REVIVED = "revived"  #: a point of a document that was deleted at this version or a newer one
    FOREIGN = "foreign"  #: a point that Gristmill did not write: no valid system payload, or not under its own id


class Finding(Record):
    """One gap."""

    gap: Gap
    #: The document; None for a point that belongs to none.
    id: str | None = None
    tenant: str | None = None
    #: Version that should be there, where it is known.
    version: int | None = None
    point_id: str
    #: What was found and what was expected.
    detail: str
    #: `--repair` enqueued its document again, or deleted the leftover.
    repaired: bool = False


class AuditReport(Record):
    """What was accepted against what Qdrant holds, document by document."""

    collection: str
    #: Fingerprint that every point must carry: of the space, and of lenses where there are any.
    fingerprint: str
    #: Documents and points found in Qdrant.
    documents: int = 0
    points: int = 0
    #: Documents that were looked for: the caller's, then those on the ledger's roster.
    expected: int = 0
    #: Whether the ledger keeps a roster. Without one, only the caller's documents can be found to be missing.
    roster: bool = False
    #: Documents of the caller that are none: refused, not looked for.
    rejected: int = 0
    #: Not as expected, with a good reason: still on their way; among the dead letters; deleted.
    in_flight: int = 0
    dead: int = 0
    deleted: int = 0
    #: Not as expected, for no known reason. Each document counts once; leftover, revived and foreign
    #: points count as points.
    missing: int = 0
    stale: int = 0
    incomplete: int = 0
    wrong_space: int = 0
    vectorless: int = 0
    leftover: int = 0
    revived: int = 0
    foreign: int = 0
    #: Documents enqueued again, and leftover and revived points deleted, by this audit.
    repaired: int = 0
    #: Documents that Qdrant holds and the roster does not know, or knows an older version of: Redis was lost or restored
    #: from an older copy, or kept no roster then. No gap; but if one of them goes missing, only your own files tell.
    unlisted: int = 0
    #: Of these, what this audit has put back on the roster.
    listed: int = 0
    #: Job of the documents that were enqueued again.
    job_id: str | None = None
    #: Whether the collection was left in a bulk load, and this audit has switched its index on again.
    index_restored: bool = False
    #: The first 1,000 gaps; the counters count all.
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def gaps(self) -> int:
        """Everything that is not as it should be."""
        return sum(getattr(self, gap.value) for gap in Gap)

    @property
    def left(self) -> int:
        """Gaps that this audit has not repaired."""
        return self.gaps - self.repaired


class RefusedMessage(Stored):
    """A broker message that does not speak of work: never executed, kept for whoever wants to know who sent it."""

    KIND: ClassVar[str] = "refused message"

    reason: Reason
    #: Queue it came from.
    queue: str
    #: The beginning of the raw message, with unprintable bytes escaped.
    message: Reason
    #: Seconds since 1970.
    refused_at: float = Field(ge=0)

    @property
    def id(self) -> str:
        """A name for it, 64 bits in hex over all that it says: `client.refused.get(id)`."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Erased(Record):
    """One place where something of a tenant can be."""

    found: int = 0
    erased: int = 0
    #: Seen by a last look, after everything.
    left: int = 0


class Erasure(Record):
    """What was found of one tenant in one collection, what was erased of it, and what a last look has found."""

    collection: str
    tenant: str
    #: Seconds since 1970, by the ledger's clock: when the last look ended.
    looked_at: float
    #: Points in Qdrant, one per chunk.
    points: Erased = Erased()
    #: Documents and deletions on their way, those that workers have in hand included.
    pending: Erased = Erased()
    dead_letters: Erased = Erased()
    #: Documents on the roster.
    roster: Erased = Erased()
    #: Deletions that are remembered.
    tombstones: Erased = Erased()
    #: Notes of workers that they are about to write documents of the tenant.
    intents: Erased = Erased()
    #: Reports of jobs that name the tenant. Their counters stay, and name nobody.
    jobs: Erased = Erased()
    #: Workers that were writing and have not answered: frozen, dead or slow. What they may still write is taken back as soon
    #: as it is there; the note of it names nobody, and blocks nothing.
    unanswered: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left."""
        return not any(getattr(self, place).left for place in PLACES)


#: Fields that are places.
PLACES = ("points", "pending", "dead_letters", "roster", "tombstones", "intents", "jobs")
