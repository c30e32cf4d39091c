"""What becomes of a parcel's items while it is worked on: counters, and a dead letter for each that fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gristmill.ledger import Claim, Verdict
from gristmill.ledger.clock import LedgerClock
from gristmill_schemas import DeadLetter, Deletion, Document, Outcome, PointSystem
from gristmill_schemas.redaction import redact

#: Characters of a reason that are kept.
_REASON_CHARS = 2000


@dataclass
class Tally:
    """Grows into the verdict on one claim."""

    claim: Claim
    #: Key of the collection that the parcel goes to.
    key: str
    clock: LedgerClock
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    letters: list[DeadLetter] = field(default_factory=list)
    tokens: int = 0
    chunks: int = 0
    truncated: int = 0
    written: int = 0
    in_vain: Counter[Outcome] = field(default_factory=Counter)

    def store(self, stored: PointSystem) -> None:
        """Count a document that is stored, by what its points say: whoever wrote them may have been killed right after."""
        self.outcomes[Outcome.STORED] += 1
        self.chunks += stored.chunks
        self.truncated += stored.truncated
        self.tokens += stored.tokens

    def waste(self, outcome: Outcome, tokens: int) -> None:
        """Count tokens that the model read of an item that ended otherwise than stored."""
        if tokens:
            self.in_vain[outcome] += tokens

    def bury(self, item: Document | Deletion, version: int, error: str, reason: str) -> None:
        """Count an item as dead, and write its letter: everything needed to understand it and to try again."""
        parcel = self.claim.parcel
        self.outcomes[Outcome.DEAD] += 1
        self.letters.append(
            DeadLetter(
                id=f"{parcel.id}-{len(self.letters)}",
                job_id=parcel.job_id,
                collection=parcel.collection,
                collection_key=self.key,
                model_digest=parcel.model_digest,
                document=item if isinstance(item, Document) else None,
                deletion=item if isinstance(item, Deletion) else None,
                version=version,
                error=error,
                reason=redact(reason)[:_REASON_CHARS],
                attempts=self.claim.attempts,
                enqueued_at=parcel.enqueued_at,
                died_at=self.clock.now(),
            )
        )

    def verdict(self) -> Verdict:
        """As the ledger takes it."""
        letters = tuple(self.letters)
        return Verdict(self.outcomes, self.tokens, self.chunks, self.truncated, letters, self.written, self.in_vain)


def all_dead(claim: Claim, error: str, reason: str, clock: LedgerClock) -> Verdict:
    """The verdict on a parcel none of whose items can be stored."""
    tally = Tally(claim, claim.parcel.collection_key, clock)
    for item in claim.parcel.items:
        tally.bury(item, claim.parcel.version_of(item), error, reason)
    return tally.verdict()
