"""What is left of a tenant: the proof of an erasure, which a second look confirms."""

from __future__ import annotations

from gristmill_schemas.validation import Record


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
