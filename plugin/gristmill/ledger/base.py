"""The ledger: the only trace of work that counts. A broker message merely says that there is some for a model.

One parcel's life:

    accept ──► waiting ──claim──► held ──begin──► at work ──finish──► gone, counted   (stored, skipped, …, dead)
                  ▲                 │                │ └──────split───► its items, one parcel each, waiting
                  └─────release─────┴────release─────┴─(lease runs out: free for the next claim)

Laws, for every implementation:

- `accept` of the same (job, sequence number) twice counts once, even if the first has long been finished.
- `claim` chooses: first what a silent holder left, then by fairness (`docs/explanation/fairness.md`): of the priorities with
  work that is due by their shares, in each of the tenants, and of each tenant of the jobs, that which has been given the
  fewest tokens; of a job its oldest parcel. So nobody waits behind another's backlog, nor sees another model's at all.
- Where several workers serve a model, none that says so is given more than an equal part of what is left, rounded up.
  Whoever has nothing in hand is given whatever is due.
- What is given back with a delay, or belongs to a collection that rests, is not due before that is over, for anybody.
- Attempts are counted by `begin`, right before work starts: whoever kills the process is counted, and whoever only
  waited in it for its turn is not.
- Only the holder of the newest claim may finish, split or release; anybody else is told no and changes nothing.
- A job with open parcels is never forgotten; finished ones are, by age and by number.
- What a holder has said of its parcel, `encoded`, is part of what is pending; it goes with the parcel, and with the holder.
- Of every job, accepted = stored + skipped + superseded + deleted + absent + dead + gone + cancelled + pending, and
  chunks >= stored >= truncated, after every single call: a verdict that would break it is not taken.
- Time is the ledger's own clock, so producers and workers need not agree on theirs.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from gristmill.ledger.limits.base import UNLIMITED, AboveLimit, Limits, Tenants
from gristmill.ledger.order.ahead import Before
from gristmill.ledger.webhooks.base import Webhooks
from gristmill.settings import ClientSettings
from gristmill_schemas import (
    DeadLetter,
    EncoderInfo,
    Intent,
    JobReport,
    Outcome,
    Parcel,
    Priority,
    QueuedJob,
    Retraction,
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job that has just been opened."""

    job_id: str
    #: Version of every document that brings none: the ledger's clock in microseconds, never the same twice.
    version: int
    #: Seconds since 1970, by the ledger's clock.
    opened_at: float


class Accepted(StrEnum):
    """Answer to `accept`."""

    YES = "yes"  #: stored and counted now, or by an earlier try
    FULL = "full"  #: above the high-water mark; nothing changed
    NO_MEMORY = "no memory"  #: the server itself has none to spare; nothing changed


class Begun(StrEnum):
    """Answer to `begin`."""

    NO = ""  #: no longer the holder; nothing changed
    YES = "yes"  #: work may start
    CLEAR = "clear"  #: so it may, and no deletion is remembered in the collection that the parcel was accepted for


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one parcel until the lease runs out; `renew` extends it."""

    parcel: Parcel
    #: Which attempt this is: those already spent, and this one.
    attempts: int
    #: Proof of holding, unique to this claim.
    token: str
    #: Why the attempt before this one ended, where somebody lived to say it.
    last_error: str = ""
    #: Point ids of documents that an earlier delivery found to be there, before it deleted them.
    found: frozenset[str] = frozenset()
    #: Seconds since the parcel was accepted, by the ledger's clock.
    waited_s: float = 0.0
    #: Whether somebody else held it and fell silent.
    taken_over: bool = False


class Encoded(NamedTuple):
    """What the holder of a parcel has done of it, and the ledger cannot see before it is stored."""

    #: Documents that have all their vectors.
    documents: int = 0
    #: Of these.
    tokens: int = 0


NOTHING_ENCODED: Mapping[str, Encoded] = MappingProxyType({})
NOBODY: Mapping[str, str] = MappingProxyType({})


class EnoughHeld(Exception):
    """Whoever asks has its share of the parcels that are left; the others' are for other workers."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What somebody who claims a parcel has in hand beside it, and how many work for the model."""

    parcels: int = 0
    workers: int = 1

    def is_share_of(self, left: int) -> bool:
        """Whether this is an equal part, rounded up, of so many parcels."""
        return self.parcels > 0 and self.workers > 1 and self.parcels * self.workers >= left


#: Of a worker that is alone, or has nothing in hand.
ALONE = Holding()


class UnreadableParcel(Exception):
    """The ledger holds bytes under this id that are no parcel; its items have been counted as dead.

    Attributes:
        items: how many.
    """

    def __init__(self, message: str, items: int) -> None:
        self.items = items
        super().__init__(message)


def unreadable_letter(
    parcel_id: str, job_id: str, collection: str, model_digest: str, reason: str, now: float
) -> DeadLetter:
    """The one letter for all items of a parcel that nobody can read, such as one from a newer Gristmill."""
    return DeadLetter(
        id=f"{parcel_id}-unreadable",
        job_id=job_id,
        collection=collection,
        model_digest=model_digest,
        version=0,
        error="UnreadableParcel",
        reason=f"no document can be shown: {reason}",
        attempts=0,
        enqueued_at=now,
        died_at=now,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a parcel's items."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    #: Of what was stored, by this delivery or an earlier one.
    tokens: int = 0
    chunks: int = 0
    truncated: int = 0
    #: One letter per item counted as dead.
    letters: tuple[DeadLetter, ...] = ()
    #: Points that this very delivery has written; not counted.
    written: int = 0
    #: Tokens that the model read of items that were not stored after all, by what became of them; not counted.
    in_vain: Counter[Outcome] = field(default_factory=Counter)

    def check(self, parcel: Parcel) -> None:
        """Raise RuntimeError unless every item of the parcel has one end, and the counters agree: it is a bug of ours."""
        stored, dead = self.outcomes[Outcome.STORED], self.outcomes[Outcome.DEAD]
        if self.outcomes.total() != len(parcel) or len(self.letters) != dead:
            raise RuntimeError(f"{len(parcel)} items ended as {self.outcomes} with {len(self.letters)} letters")
        if not self.chunks >= stored >= self.truncated >= 0 or min(self.outcomes.values(), default=0) < 0:
            raise RuntimeError(f"{stored} documents stored in {self.chunks} chunks, {self.truncated} truncated")


@dataclass(frozen=True, slots=True)
class Load:
    """What the ledger holds for all jobs together."""

    parcels: int
    documents: int
    #: Of memory, by `costs`: unfinished parcels with their messages, and jobs that are remembered.
    bytes: int
    dead_letters: int = 0
    #: Of memory, too.
    dead_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the ledger holds for one model. Tokens are those that were estimated when the documents came in."""

    #: Unfinished ones, waiting or in hand; so are the documents and tokens.
    parcels: int = 0
    documents: int = 0
    tokens: int = 0
    #: Of the parcels: those that somebody has claimed.
    held_parcels: int = 0
    #: Age of the parcel that has waited longest, of those that could be claimed; None where none could.
    oldest_s: float | None = None
    #: Of the tokens those of paused jobs, for which no worker is called.
    paused_tokens: int = 0

    @property
    def wanted_tokens(self) -> int:
        """Those that workers are there for."""
        return max(0, self.tokens - self.paused_tokens)


@dataclass(frozen=True, slots=True)
class HighWater:
    """Above either mark `accept` says FULL, and above a tenant's limit AboveLimit."""

    documents: int
    bytes: int
    #: Of each tenant that has no limits of its own; None where nobody's limit counts.
    tenant: Limits | None = UNLIMITED

    @classmethod
    def of(cls, settings: ClientSettings) -> HighWater:
        """The marks above which `enqueue` waits."""
        limits = Limits(settings.tenant_max_documents, settings.tenant_max_tokens, settings.tenant_max_bytes)
        return cls(settings.queue_max_documents, settings.queue_max_bytes, limits)


#: For what Redis holds already in another form, such as a dead letter that is replayed.
UNBOUNDED = HighWater(documents=2**53, bytes=2**53, tenant=None)


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long, and how much, the ledger remembers of what is over."""

    #: A finished job.
    job_ttl_s: float = 7 * 86_400
    #: Finished jobs; the oldest make room.
    jobs_kept: int = 100_000
    #: A deletion.
    tombstone_ttl_s: int = 7 * 86_400
    #: Memory of dead letters above which `dead_full` says so.
    dead_max_bytes: int = 256 * 1024 * 1024
    #: The text of a dead document; who it was and why it died stays.
    letter_text_ttl_s: float = 30 * 86_400
    #: A producer that gives no sign of life for so long is taken for dead, and its job closed.
    producer_lease_s: float = 900.0

    @classmethod
    def of(cls, settings: ClientSettings) -> Keeping:
        """What the settings say about it."""
        return cls(
            job_ttl_s=settings.job_ttl_s,
            jobs_kept=settings.jobs_kept,
            tombstone_ttl_s=settings.tombstone_ttl_s,
            dead_max_bytes=settings.dead_max_bytes,
            letter_text_ttl_s=settings.dead_text_ttl_s,
        )

    #: Webhooks that are not delivered; the oldest make room.
    webhooks_kept: int = 100_000
    #: One that is not delivered, or was given up.
    webhook_ttl_s: float = 7 * 86_400

    def prelude(self) -> str:
        """What scripts need to know of it, in Lua."""
        of_webhooks = f"local WEBHOOKS_KEPT, WEBHOOK_TTL_S = {self.webhooks_kept}, {self.webhook_ttl_s}\n"
        of_jobs = f"local JOB_TTL_S, JOBS_KEPT, BEGUN_S = {self.job_ttl_s}, {self.jobs_kept}, {BEGUN_S}\n"
        return of_jobs + of_webhooks


#: How long a parcel of a newer format is left alone, for a worker that can read it.
NEWER_FORMAT_S = 60.0
#: How long a parcel that somebody has begun to write cannot be cancelled.
BEGUN_S = 3600.0
#: Intents that are kept; beyond it the oldest go. Those of living claims are a few per worker, the others are what crashes
#: have left within the time that deletions are remembered.
MAX_INTENTS = 10_000


def new_job_id() -> str:
    """64 random bits in hex."""
    return uuid.uuid4().hex[:16]


class Ledger(Protocol):
    """All that producers, workers and the reconciler need to remember."""

    @property
    def webhooks(self) -> Webhooks:
        """What is to be told of jobs that are done."""

    @property
    def tenants(self) -> Tenants:
        """What each has waiting, and may."""

    # producer
    def open_job(
        self,
        collection: str,
        job_id: str | None = None,
        tenant: str | None = None,
        notify: str | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Ticket:
        """Open a job and reserve its version. It is a tenant's until it accepts what is not.

        `notify` is told when the job is done: in the same change that makes it so, a webhook is queued.

        Who brings an id of its own (`new_job_id`) can close the job even if it is interrupted before the answer comes.
        """

    def accept(self, parcel: Parcel, sequence: int, high_water: HighWater, messages: int = 1) -> Accepted | AboveLimit:
        """Store a parcel and count its items, unless the ledger is full; a sign of life of the job's producer either way.

        An empty ledger is never FULL. A job that was closed because its producer had been silent is open again.

        Args:
            parcel: of an open job.
            sequence: its number in the job, from 0; one that was accepted before is accepted again and changes nothing.
            high_water: marks above which it is not.
            messages: that will be sent for it; they take up memory as well.
        """

    def close_job(self, job_id: str, rejected: int = 0) -> None:
        """Say that no more parcels will come."""

    # worker
    def claim(self, model_digest: str, lease_s: float, holding: Holding = ALONE) -> Claim | None:
        """Take the model's next parcel to work on it; None where none is due.

        Raises:
            EnoughHeld: some wait, and `holding` is an equal part of what waits and is held: they are for other workers.
            UnreadableParcel: the next one's bytes are no parcel. It is parked; the one after it can be claimed.
            NewerFormat: a newer Gristmill wrote the next one. It is given back for a while, with its attempts.
        """

    def begin(self, claim: Claim) -> Begun:
        """Count the attempt; work may start, unless the answer is NO."""

    def renew(self, claims: Sequence[Claim], lease_s: float, encoded: Mapping[str, Encoded] = NOTHING_ENCODED) -> None:
        """Extend the leases of claims still held, and note how far each has come, by its token."""

    def release(self, claim: Claim, *, refund: bool, error: str = "", delay_s: float = 0.0) -> bool:
        """Give a parcel back, to its old place in line, or to be due again after `delay_s`.

        `refund` takes back the attempt, for reasons that are not the parcel's fault.
        """

    def rest(self, model_digest: str, collection: str, seconds: float) -> None:
        """Let a collection's parcels wait: none is due before, for any worker. A longer rest already begun stays."""

    def note_found(self, claim: Claim, keys: Iterable[str]) -> bool:
        """Keep with the parcel which documents are there, before they are deleted; `Claim.found` of its next delivery.

        Without it, whoever comes after a worker that was killed in between would find nothing to delete. False: no longer
        the holder.
        """

    def finish(self, claim: Claim, verdict: Verdict) -> bool:
        """Count the verdict, keep its dead letters and forget the parcel, all at once. False: no longer the holder.

        Either way the claim's intent is forgotten: who has a verdict has read back what became of its writes.

        Raises:
            RuntimeError: the verdict contradicts itself or the parcel.
        """

    def split(self, claim: Claim, parts: Sequence[Parcel], attempts: int) -> bool:
        """Replace a parcel by its parts, which start with `attempts` attempts already spent."""

    def reroute(self, claim: Claim, parcel: Parcel) -> bool:
        """Let a claimed parcel wait for another model, with its attempt: `parcel` is the same, but for the model."""

    # collections
    def note_collection(self, name: str, key: str) -> None:
        """Note that this installation has a collection of this name, and of which key its roster is if none is known."""

    def note_deletion(self, name: str) -> None:
        """Note that a collection was deleted on purpose; remembered for as long as a tombstone."""

    def was_deleted(self, name: str) -> bool:
        """Whether a collection was deleted on purpose, and not created again since."""

    def known_collections(self) -> set[str]:
        """Names of the collections that were noted and not deleted."""

    # reconciler
    def backlog(self, model_digest: str) -> int:
        """How many parcels of a model could be claimed now, those of silent holders included.

        Exact while no more than two hundred jobs have work that is due; a lower bound beyond.
        """

    def forget_expired(self) -> int:
        """Close jobs of silent producers, forget jobs and letters' texts whose time is over; returns how many jobs."""

    def take_turn(self, name: str, holder: str, lease_s: float) -> bool:
        """Be the one of many that does a periodic duty; true while `holder` holds it."""

    # fence
    def bury(
        self,
        collection: str,
        versions: Mapping[str, int],
        owners: Mapping[str, str] = NOBODY,
        claim: Claim | None = None,
    ) -> bool:
        """Write tombstones: point id of chunk 0 to the deletion's version. A higher one already there stays, renewed.

        `owners` says whose they are, where they are a tenant's. False, and nothing is written, where there is a `claim`
        that is not the holder any more.
        """

    def tombstones(self, collection: str, point_ids: Sequence[str]) -> dict[str, int]:
        """Those of the given documents that have been deleted, and at which version."""

    def follow(self, parcel: Parcel, key: str) -> None:
        """Take a parcel's documents off the roster that they were accepted for and note them on that of `key`.

        For a parcel whose collection's name means another collection now than when it was accepted.
        """

    def intend(self, intent: Intent) -> bool:
        """Note what a claim is about to write. False, and it must not: it is not the holder any more."""

    def fulfil(self, token: str) -> None:
        """Forget the intent of a claim without a verdict: somebody else looks at what became of its writes."""

    def unfulfilled(self, limit: int) -> list[Intent]:
        """Intents of claims that do not hold their parcel any more, newest first: each may still write, or have written."""

    def retractions(self) -> list[Retraction]:
        """What claims may still write of tenants that have been erased."""

    def lift(self, retraction_id: str) -> None:
        """Forget a retraction: its claim will write no more."""

    # steering
    def pause(self, job_id: str) -> bool:
        """Give nothing more of a job to anybody; what is in hand goes on. False where it is unknown or over."""

    def resume(self, job_id: str) -> Mapping[str, int] | None:
        """End the pause, if there is one. None where the job is unknown or over.

        Returns:
            How many parcels of it wait, by the model that they wait for: whose workers are to be told.
        """

    def cancel(self, job_id: str) -> bool:
        """End a job: it takes no more, and what nobody works on is `cancelled`. False where it is unknown or over.

        What is in hand may end as ever; what is given back is cancelled by a later `forget_expired`. What somebody has begun
        to write or to delete (`intend`, `bury`) within the last BEGUN_S is given out until it has ended: half an update of a
        document would stay.
        """

    # people
    def report(self, job_id: str) -> JobReport | None:
        """Counters of a job, or None where it is unknown or expired."""

    def jobs(self, limit: int, tenant: str | None = None) -> list[JobReport]:
        """Newest first; all, or those whose documents are all of this tenant."""

    def load(self) -> Load:
        """What is waiting or being worked on."""

    def waiting(self) -> dict[str, Waiting]:
        """What is unfinished, by the digest of the model that it is for."""

    def queued_jobs(self, model_digest: str, limit: int) -> list[QueuedJob]:
        """Jobs with unfinished work for a model, those with the most tokens first."""

    def dead_full(self) -> bool:
        """Whether dead letters take up so much memory that nothing more should be tried. `finish` takes them even then."""

    def dead_letters(
        self,
        limit: int,
        collection: str | None = None,
        job_id: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> list[DeadLetter]:
        """Newest first; of one collection by the name that was asked for, one job, one error, one tenant, or all."""

    def dead_summary(self) -> dict[tuple[str, str], int]:
        """How many there are of each error in each collection."""

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """One letter."""

    def drop_dead(self, letter_ids: Iterable[str]) -> int:
        """Forget letters; returns how many there were."""

    # who serves what
    def announce(self, info: EncoderInfo) -> None:
        """Note that a worker serves this model."""

    def models(self) -> list[EncoderInfo]:
        """Every model that was ever announced, newest first."""

    def heartbeat(self, worker_id: str, status: Mapping[str, object], ttl_s: float) -> None:
        """Say that a worker lives, and what it is doing; the rates that its engines have measured are remembered."""

    def rate(self, model_digest: str) -> float | None:
        """Useful tokens per second of one worker of the model: the mean of what the living have measured.

        Remembered once none lives; None before anybody has measured.
        """

    def work_seconds(self, model_digest: str) -> int:
        """Seconds that one worker of the model would need for what waits and is held, for autoscalers.

        At least 1 while there is work, at most an hour. While a worker loads the model they do not become fewer.
        """

    def workers(self) -> dict[str, dict[str, object]]:
        """Living workers and their last status."""

    def before(self, job_id: str) -> Before | None:
        """What is served before a job, as things stand; None where it is unknown, or nothing of it is unfinished."""

    def now(self) -> float:
        """The ledger's clock: seconds since 1970."""
