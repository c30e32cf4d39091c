"""The ledger in this process: the same laws, for embedded mode and unit tests. It ends with the process."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean

from gristmill.ledger.base import (
    ALONE,
    BEGUN_S,
    MAX_INTENTS,
    NEWER_FORMAT_S,
    NOBODY,
    NOTHING_ENCODED,
    Accepted,
    Begun,
    Claim,
    Encoded,
    EnoughHeld,
    HighWater,
    Holding,
    Keeping,
    Load,
    Ticket,
    UnreadableParcel,
    Verdict,
    Waiting,
    new_job_id,
    unreadable_letter,
)
from gristmill.ledger.capacity import TOKENS_PER_S, seconds_of, standings
from gristmill.ledger.costs import JOB, WEBHOOK, Costs
from gristmill.ledger.letters import is_meant, pack_letter, without_text
from gristmill.ledger.limits.base import AboveLimit, Work, shares_of
from gristmill.ledger.limits.memory import MemoryTenants
from gristmill.ledger.order.ahead import Before, Turns
from gristmill.ledger.order.fair import Path, path_of
from gristmill.ledger.order.lines import Lines
from gristmill.ledger.queues import cancelled, queued
from gristmill.ledger.roster import MemoryRoster
from gristmill.ledger.webhooks.memory import MemoryWebhooks
from gristmill_schemas import (
    DeadLetter,
    EncoderInfo,
    Intent,
    JobReport,
    JobState,
    Parcel,
    Priority,
    QueuedJob,
    Retraction,
    WebhookState,
)
from gristmill_schemas.errors import InvalidInput, NewerFormat
from gristmill_schemas.parcel import pack, unpack


@dataclass
class _Job:
    collection: str
    created_at: float
    priority: Priority
    #: Whose everything in it is; empty where that is not one tenant, None where nothing is known yet.
    tenant: str | None = None
    #: Who is told when it is done.
    notify: str | None = None
    webhook: WebhookState | None = None
    #: Closed since its producer was silent.
    abandoned: bool = False
    #: That its newest parcel was accepted for.
    model: str | None = None
    counters: Counter[str] = field(default_factory=Counter)
    next_sequence: int = 0
    open_parcels: int = 0
    closed: bool = False
    paused: bool = False
    cancelled: bool = False
    #: Last sign of life of the producer.
    heard_at: float = 0.0
    finished_at: float | None = None


@dataclass
class _Parcel:
    #: Packed as in Redis, so that both ledgers hold the same bytes and bound the same memory.
    body: bytes
    #: What it would take up there.
    bytes: int
    job_id: str
    model: str
    collection: str
    items: int
    tokens: int
    #: Whose of it is how much.
    shares: dict[str, Work]
    accepted_at: float
    attempts: int = 0
    token: str = ""
    lease_end: float = 0.0
    last_error: str = ""
    encoded: Encoded = field(default_factory=Encoded)
    found: frozenset[str] = frozenset()
    #: When somebody last began to write or to delete its documents.
    begun_at: float = 0.0

    @property
    def is_begun(self) -> bool:
        """Whether that is so now."""
        return self.begun_at > time.time() - BEGUN_S


@dataclass
class _Letter:
    letter: DeadLetter
    bytes: int
    died_at: float
    bare: bool = False


@dataclass
class _Book:
    """See `Book`."""

    jobs: dict[str, _Job]
    parcels: dict[str, _Parcel]

    def path(self, job_id: str) -> Path:
        job = self.jobs[job_id]
        return path_of(job.priority, job.tenant, job.collection, f"{job.created_at * 1_000_000:016.0f}{job_id}")

    def is_stopped(self, job_id: str, parcel_id: str | None = None) -> bool:
        job, kept = self.jobs[job_id], self.parcels.get(parcel_id or "")
        return job.paused or (job.cancelled and not (kept is not None and kept.is_begun))

    def collection(self, parcel_id: str) -> str:
        return self.parcels[parcel_id].collection

    def tokens(self, parcel_id: str) -> int:
        return self.parcels[parcel_id].tokens


class MemoryLedger:
    """`Ledger` in memory."""

    def __init__(self, *, roster: bool = True, keeping: Keeping | None = None) -> None:
        self._lock = threading.RLock()
        self._roster = MemoryRoster() if roster else None
        self._keeping = keeping or Keeping()
        self._costs = Costs(roster)
        self._documents = self._bytes = 0
        self._jobs: dict[str, _Job] = {}
        #: Ids of finished jobs, in the order of their ends.
        self._finished: dict[str, None] = {}
        self._parcels: dict[str, _Parcel] = {}
        #: Ids of parcels that somebody claimed, so that looking for lapsed ones costs nothing per waiting one.
        self._in_hand: set[str] = set()
        self._book = _Book(self._jobs, self._parcels)
        self._lines: defaultdict[str, Lines] = defaultdict(lambda: Lines(self._book))
        #: Collection, then point id.
        self._tombs: defaultdict[str, dict[str, int]] = defaultdict(dict)
        #: Collection and tenant, to point ids.
        self._graves: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._intents: dict[str, Intent] = {}
        self._retractions: dict[str, Retraction] = {}
        self._collections: set[str] = set()
        #: Of each the key of its roster.
        self._rosters: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._letters: dict[str, _Letter] = {}
        self._models: dict[str, EncoderInfo] = {}
        self._workers: dict[str, tuple[float, dict[str, object]]] = {}
        self._rates: dict[str, dict[str, tuple[float, float]]] = {}
        self._turns: dict[str, tuple[str, float]] = {}
        self._clock = 0
        self.tenants = MemoryTenants(self._lock, self.now)
        self.webhooks = MemoryWebhooks(
            self._lock, self.now, self._keeping.webhooks_kept, self._keeping.webhook_ttl_s, self._note_webhook
        )

    # producer

    def open_job(
        self,
        collection: str,
        job_id: str | None = None,
        tenant: str | None = None,
        notify: str | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Ticket:
        job_id = job_id or new_job_id()
        with self._lock:
            now = self.now()
            self._clock = max(int(now * 1_000_000), self._clock + 1)
            self._jobs[job_id] = _Job(collection, now, priority, tenant, heard_at=now, notify=notify)
            return Ticket(job_id=job_id, version=self._clock, opened_at=now)

    def accept(self, parcel: Parcel, sequence: int, high_water: HighWater, messages: int = 1) -> Accepted | AboveLimit:
        body = pack(parcel)
        with self._lock:
            job = self._jobs.get(parcel.job_id)
            if job is None:
                raise InvalidInput(f"job {parcel.job_id}: unknown or expired; `enqueue` again")
            if job.cancelled:
                raise cancelled(parcel.job_id)
            job.heard_at = self.now()
            if job.closed:  # because its producer had been silent
                job.closed, job.abandoned, job.finished_at = False, False, None
                self._finished.pop(parcel.job_id, None)
            if sequence < job.next_sequence:
                return Accepted.YES
            shares = shares_of(parcel)
            if high_water.tenant is not None and (above := self.tenants.above_limit(shares, high_water.tenant)):
                return above
            cost = self._costs.parcel(len(body), parcel, messages)
            if self._documents and (
                self._documents + len(parcel) > high_water.documents or self.load().bytes + cost > high_water.bytes
            ):
                return Accepted.FULL
            where = (parcel.job_id, parcel.model_digest, parcel.collection)
            kept = _Parcel(body, cost, *where, len(parcel), parcel.tokens, shares, self.now())
            if job.tenant != (owner := parcel.tenant or ""):
                self._own(parcel.job_id, owner if job.tenant is None else "")
            self._store(parcel.id, kept)
            job.next_sequence = sequence + 1
            job.model = parcel.model_digest
            job.counters["accepted"] += len(parcel)
            job.open_parcels += 1
            if self._roster is not None:
                self._roster.enrol(parcel, parcel.collection_key)
            return Accepted.YES

    def _own(self, job_id: str, tenant: str | None) -> None:
        """Whose the job is: its parcels' one tenant's, or nobody's; its lines stand where their owner's do."""
        for lines in self._lines.values():
            lines.leave(job_id)
        self._jobs[job_id].tenant = tenant
        for lines in self._lines.values():
            lines.resume(job_id, self.now())

    def _store(self, parcel_id: str, kept: _Parcel) -> None:
        self._parcels[parcel_id] = kept
        self._count(kept, 1)
        self._lines[kept.model].join(parcel_id, kept.job_id, kept.accepted_at, kept.accepted_at)

    def _count(self, kept: _Parcel, sign: int) -> None:
        self._documents += sign * kept.items
        self._bytes += sign * kept.bytes
        self.tenants.add(kept.shares, sign)

    def close_job(self, job_id: str, rejected: int = 0) -> None:
        with self._lock:
            if job := self._jobs.get(job_id):
                job.closed, job.abandoned = True, False
                job.counters["rejected"] = rejected
                self._settle(job_id)

    def _settle(self, job_id: str) -> None:
        job = self._jobs[job_id]
        if job.closed and job.open_parcels == 0 and job.finished_at is None:
            job.finished_at = self.now()
            job.paused = False
            self._finished[job_id] = None
            if job.notify and (report := self.report(job_id)):
                self.webhooks.queue(report, job.notify, job.finished_at)
            self._forget_finished()

    def _forget_finished(self) -> int:
        over, gone = self.now() - self._keeping.job_ttl_s, 0
        while self._finished:
            oldest = next(iter(self._finished))
            if len(self._finished) <= self._keeping.jobs_kept and (self._jobs[oldest].finished_at or 0.0) > over:
                break
            self._forget(oldest)
            gone += 1
        return gone

    def _forget(self, job_id: str) -> None:
        self._finished.pop(job_id, None)
        self._jobs.pop(job_id, None)

    def _note_webhook(self, job_id: str, state: WebhookState) -> None:
        if job := self._jobs.get(job_id):
            job.webhook = state

    def _count_done(self, job_id: str, parcels: int, counters: Mapping[str, int]) -> None:
        if job := self._jobs.get(job_id):
            job.counters.update(counters)
            job.open_parcels -= parcels
            self._settle(job_id)

    # worker

    def claim(self, model_digest: str, lease_s: float, holding: Holding = ALONE) -> Claim | None:
        with self._lock:
            if holding.workers > 1 and self._is_share(model_digest, holding):
                raise EnoughHeld
            parcel_id = self._left_by_a_silent_holder(model_digest) or self._lines[model_digest].next(self.now())
            return None if parcel_id is None else self._take(parcel_id, lease_s)

    def _is_share(self, model_digest: str, holding: Holding) -> bool:
        left = {
            parcel_id
            for parcel_id, kept in self._parcels.items()
            if kept.model == model_digest and (parcel_id in self._in_hand or not self._jobs[kept.job_id].paused)
        }
        return not self._in_hand.issuperset(left) and holding.is_share_of(len(left))

    def _left_by_a_silent_holder(self, model_digest: str) -> str | None:
        """One of whose job nothing is given meanwhile goes back into its line."""
        for _, parcel_id in sorted(self._lapsed(model_digest)):
            kept = self._parcels[parcel_id]
            if not self._book.is_stopped(kept.job_id, parcel_id):
                return parcel_id
            self._give_back(parcel_id, kept, kept.accepted_at)
        return None

    def _lapsed(self, model_digest: str) -> Iterator[tuple[float, str]]:
        now, in_hand = self.now(), ((self._parcels[parcel_id], parcel_id) for parcel_id in self._in_hand)
        return ((kept.lease_end, pid) for kept, pid in in_hand if kept.model == model_digest and kept.lease_end <= now)

    def _take(self, parcel_id: str, lease_s: float) -> Claim:
        kept = self._parcels[parcel_id]
        self._note_encoded(kept, Encoded())
        taken_over, kept.token = bool(kept.token), uuid.uuid4().hex
        kept.lease_end = self.now() + lease_s
        self._in_hand.add(parcel_id)
        try:
            waited_s = self.now() - kept.accepted_at
            body, attempts = unpack(kept.body), kept.attempts + 1
            return Claim(body, attempts, kept.token, kept.last_error, kept.found, waited_s, taken_over)
        except NewerFormat:
            self._give_back(parcel_id, kept, self.now() + NEWER_FORMAT_S)
            raise
        except InvalidInput as error:
            self._park(parcel_id, kept, str(error))
            raise UnreadableParcel(f"{parcel_id}: {error}", kept.items) from error

    def _park(self, parcel_id: str, kept: _Parcel, reason: str) -> None:
        self._drop(parcel_id)
        self._keep_letter(
            unreadable_letter(parcel_id, kept.job_id, kept.collection, kept.model, reason, self.now()), len(kept.body)
        )
        self._count_done(kept.job_id, 1, {"dead": kept.items})

    def _keep_letter(self, letter: DeadLetter, more_bytes: int = 0) -> None:
        size = self._costs.letter(len(pack_letter(letter))) + more_bytes
        self._letters[letter.id] = _Letter(letter, size, self.now())

    def _note_encoded(self, kept: _Parcel, encoded: Encoded) -> None:
        """What the holder of a parcel has encoded of it; nothing of a parcel that changes hands."""
        if job := self._jobs.get(kept.job_id):
            job.counters["encoded"] += encoded.documents - kept.encoded.documents
            job.counters["encoded_tokens"] += encoded.tokens - kept.encoded.tokens
        kept.encoded = encoded

    def _drop(self, parcel_id: str) -> None:
        kept = self._parcels.pop(parcel_id)
        self._count(kept, -1)
        self._note_encoded(kept, Encoded())
        self._in_hand.discard(parcel_id)

    def _held(self, claim: Claim) -> _Parcel | None:
        kept = self._parcels.get(claim.parcel.id)
        return kept if kept is not None and kept.token == claim.token else None

    def begin(self, claim: Claim) -> Begun:
        with self._lock:
            kept = self._held(claim)
            if kept is None:
                return Begun.NO
            kept.attempts = claim.attempts
            return Begun.YES if claim.parcel.collection_key in self._tombs else Begun.CLEAR

    def renew(self, claims: Sequence[Claim], lease_s: float, encoded: Mapping[str, Encoded] = NOTHING_ENCODED) -> None:
        with self._lock:
            for claim in claims:
                if kept := self._held(claim):
                    kept.lease_end = self.now() + lease_s
                    self._note_encoded(kept, encoded.get(claim.token, Encoded()))

    def release(self, claim: Claim, *, refund: bool, error: str = "", delay_s: float = 0.0) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is None:
                return False
            if refund:
                kept.attempts = claim.attempts - 1
            kept.last_error = error or kept.last_error
            self._give_back(claim.parcel.id, kept, self.now() + delay_s if delay_s > 0 else kept.accepted_at)
            return True

    def _give_back(self, parcel_id: str, kept: _Parcel, due: float) -> None:
        kept.token = ""
        self._note_encoded(kept, Encoded())
        self._in_hand.discard(parcel_id)
        self._lines[kept.model].join(parcel_id, kept.job_id, due, self.now())

    def rest(self, model_digest: str, collection: str, seconds: float) -> None:
        with self._lock:
            self._lines[model_digest].rest(collection, self.now() + seconds)

    def note_found(self, claim: Claim, keys: Iterable[str]) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is not None:
                kept.found |= frozenset(keys)
            return kept is not None

    def finish(self, claim: Claim, verdict: Verdict) -> bool:
        verdict.check(claim.parcel)
        with self._lock:
            self.fulfil(claim.token)
            kept = self._held(claim)
            if kept is None:
                return False
            self._drop(claim.parcel.id)
            if self._roster is not None:
                self._roster.strike(claim.parcel, claim.parcel.collection_key, verdict.letters)
            for letter in verdict.letters:
                self._keep_letter(letter)
            work = {"tokens": verdict.tokens, "chunks": verdict.chunks, "truncated": verdict.truncated}
            self._count_done(kept.job_id, 1, {outcome.value: n for outcome, n in verdict.outcomes.items()} | work)
            return True

    def split(self, claim: Claim, parts: Sequence[Parcel], attempts: int) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is None:
                return False
            self._drop(claim.parcel.id)
            now = self.now()
            for part in parts:
                where = (kept.job_id, kept.model, kept.collection)
                body, cost = self._packed(part)
                fresh = _Parcel(body, cost, *where, len(part), part.tokens, shares_of(part), now, attempts)
                fresh.found, fresh.begun_at = kept.found, kept.begun_at
                self._store(part.id, fresh)
            self._count_done(kept.job_id, 1 - len(parts), {})
            return True

    def _packed(self, parcel: Parcel) -> tuple[bytes, int]:
        body = pack(parcel)
        return body, self._costs.parcel(len(body), parcel)

    def reroute(self, claim: Claim, parcel: Parcel) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is None:
                return False
            self._count(kept, -1)
            kept.attempts, kept.model = claim.attempts - 1, parcel.model_digest
            kept.body, kept.bytes = self._packed(parcel)
            self._count(kept, 1)
            self._give_back(parcel.id, kept, self.now())
            return True

    # collections

    def note_collection(self, name: str, key: str) -> None:
        with self._lock:
            self._rosters.setdefault(name, key)
            self._collections.add(name)
            self._deleted.discard(name)

    def note_deletion(self, name: str) -> None:
        with self._lock:
            self._collections.discard(name)
            self._rosters.pop(name, None)
            self._deleted.add(name)

    def was_deleted(self, name: str) -> bool:
        return name in self._deleted

    def known_collections(self) -> set[str]:
        with self._lock:
            return set(self._collections)

    # reconciler

    def backlog(self, model_digest: str) -> int:
        with self._lock:
            now = self.now()
            return sum(map(len, self._lines[model_digest].open(now))) + len(list(self._lapsed(model_digest)))

    def forget_expired(self) -> int:
        with self._lock:
            silent = self.now() - self._keeping.producer_lease_s
            for job_id, job in list(self._jobs.items()):
                if not job.closed and job.heard_at <= silent:
                    job.closed = job.abandoned = True
                    self._settle(job_id)
            for job_id in [each for each, job in self._jobs.items() if job.cancelled and job.finished_at is None]:
                self._discard(job_id)
            self._forget_texts()
            self.webhooks.forget()
            return self._forget_finished()

    def _forget_texts(self) -> None:
        over = self.now() - self._keeping.letter_text_ttl_s
        for kept in self._letters.values():
            if not kept.bare and kept.died_at <= over:
                kept.letter, kept.bare = without_text(kept.letter), True
                kept.bytes = self._costs.letter(len(pack_letter(kept.letter)))

    def take_turn(self, name: str, holder: str, lease_s: float) -> bool:
        with self._lock:
            current, until = self._turns.get(name, ("", 0.0))
            if current not in ("", holder) and until > self.now():
                return False
            self._turns[name] = (holder, self.now() + lease_s)
            return True

    # fence

    def bury(
        self,
        collection: str,
        versions: Mapping[str, int],
        owners: Mapping[str, str] = NOBODY,
        claim: Claim | None = None,
    ) -> bool:
        with self._lock:
            if claim is not None:
                if (kept := self._held(claim)) is None:
                    return False
                kept.begun_at = self.now()
            for point_id, version in versions.items():
                tombs = self._tombs[collection]
                tombs[point_id] = max(version, tombs.get(point_id, version))
                if point_id in owners:
                    self._graves[collection, owners[point_id]].add(point_id)
            return True

    def tombstones(self, collection: str, point_ids: Sequence[str]) -> dict[str, int]:
        with self._lock:
            tombs = self._tombs.get(collection, {})
            return {pid: tombs[pid] for pid in point_ids if pid in tombs}

    def follow(self, parcel: Parcel, key: str) -> None:
        with self._lock:
            if self._roster is not None:
                self._roster.follow(parcel, key)

    def intend(self, intent: Intent) -> bool:
        with self._lock:
            kept = self._parcels.get(intent.parcel_id)
            if kept is None or kept.token != intent.token:
                return False
            kept.begun_at = self.now()
            self._intents[intent.token] = intent
            while len(self._intents) > MAX_INTENTS:
                del self._intents[next(iter(self._intents))]
            return True

    def fulfil(self, token: str) -> None:
        with self._lock:
            self._intents.pop(token, None)

    def unfulfilled(self, limit: int) -> list[Intent]:
        with self._lock:
            held = {kept.token for kept in self._parcels.values()}
            return [intent for intent in reversed(self._intents.values()) if intent.token not in held][:limit]

    def retractions(self) -> list[Retraction]:
        with self._lock:
            return list(self._retractions.values())

    def lift(self, retraction_id: str) -> None:
        with self._lock:
            self._retractions.pop(retraction_id, None)

    def _reduce(self, parcel_id: str, left: Parcel, points: Iterable[str]) -> bool:
        """Leave of a parcel only this, and take it from its holder. True where it was held, and waits again."""
        kept = self._parcels[parcel_id]
        was_held, gone = bool(kept.token), kept.items - len(left)
        if not len(left):
            self._lines[kept.model].step_out(parcel_id, kept.job_id, self.now())
            self._drop(parcel_id)
            self._count_done(kept.job_id, 1, {"gone": gone})
            return False
        self._count(kept, -1)
        kept.body, kept.bytes = self._packed(left)
        kept.items, kept.tokens, kept.shares = len(left), left.tokens, shares_of(left)
        kept.last_error, kept.found = "", kept.found - frozenset(points)
        self._count(kept, 1)
        if was_held:
            self._give_back(parcel_id, kept, kept.accepted_at)
        self._count_done(kept.job_id, 0, {"gone": gone})
        return was_held

    # steering

    def pause(self, job_id: str) -> bool:
        with self._lock:
            if (job := self._steerable(job_id)) is not None:
                job.paused = True
            return job is not None

    def resume(self, job_id: str) -> Mapping[str, int] | None:
        with self._lock:
            if (job := self._steerable(job_id)) is None:
                return None
            job.paused = False
            for lines in self._lines.values():
                lines.resume(job_id, self.now())
            waiting = {model: len(lines.parcels(job_id)) for model, lines in self._lines.items()}
            return {model: parcels for model, parcels in waiting.items() if parcels}

    def _steerable(self, job_id: str) -> _Job | None:
        job = self._jobs.get(job_id)
        return None if job is None or job.finished_at is not None or job.cancelled else job

    def cancel(self, job_id: str) -> bool:
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.finished_at is not None:
                return False
            job.cancelled = job.closed = True
            job.paused = False
            for lines in self._lines.values():
                lines.resume(job_id, self.now())
            self._settle(job_id)
            self._discard(job_id)
            return True

    def _discard(self, job_id: str) -> None:
        """What nobody works on, or has begun to write, ends of a cancelled job; its documents are expected as before."""
        now, every = self.now(), self._parcels.items()
        mine = [(parcel_id, kept) for parcel_id, kept in every if kept.job_id == job_id and not kept.is_begun]
        for parcel_id, kept in mine:
            if parcel_id not in self._in_hand:
                self._lines[kept.model].step_out(parcel_id, job_id, now)
            elif kept.lease_end > now:
                continue
            self._withdraw(kept.body)
            self._drop(parcel_id)
            self._count_done(job_id, 1, {"cancelled": kept.items})

    def _withdraw(self, body: bytes) -> None:
        if self._roster is None:
            return
        with contextlib.suppress(InvalidInput, NewerFormat):
            self._roster.withdraw(unpack(body))

    # people

    def report(self, job_id: str) -> JobReport | None:
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            done = job.finished_at is not None
            return JobReport(
                job_id=job_id,
                collection=job.collection,
                tenant=job.tenant or None,
                abandoned=job.abandoned,
                webhook=job.webhook,
                priority=job.priority,
                paused=job.paused,
                state=JobState.DONE if done else JobState.RUNNING if job.closed else JobState.OPEN,
                created_at=job.created_at,
                seconds=(job.finished_at or self.now()) - job.created_at,
                **job.counters,
            )

    def jobs(self, limit: int, tenant: str | None = None) -> list[JobReport]:
        with self._lock:
            newest = (report for job_id in reversed(self._jobs) if (report := self.report(job_id)))
            return list(islice((each for each in newest if tenant in (None, each.tenant)), limit))

    def before(self, job_id: str) -> Before | None:
        with self._lock:
            job = self._jobs.get(job_id)
            return None if job is None or job.model is None else self._standing(job_id, job.model).before()

    def _standing(self, job_id: str, model: str) -> Turns:
        lines, waiting, held = self._lines[model], Counter[Path](), Counter[str]()
        for parcel_id, kept in self._parcels.items():
            if kept.model != model:
                continue
            if parcel_id in self._in_hand:
                held[kept.job_id] += kept.tokens
            elif kept.job_id == job_id or lines.is_due(kept.job_id):
                waiting[self._book.path(kept.job_id)] += kept.tokens
        mine = held.pop(job_id, 0)
        return Turns(
            model_digest=model,
            path=self._book.path(job_id),
            tags=lines.tags(job_id),
            waiting=waiting,
            held=mine,
            others_held=held.total(),
            is_stopped=not lines.is_due(job_id),
        )

    def load(self) -> Load:
        with self._lock:
            held = self._bytes + JOB * len(self._jobs) + WEBHOOK * self.webhooks.count()
            dead = sum(kept.bytes for kept in self._letters.values())
            return Load(len(self._parcels), self._documents, held, len(self._letters), dead)

    def waiting(self) -> dict[str, Waiting]:
        with self._lock:
            return {model: self._waiting(model) for model in {kept.model for kept in self._parcels.values()}}

    def _waiting(self, model: str) -> Waiting:
        now = self.now()
        parcels = {parcel_id: kept for parcel_id, kept in self._parcels.items() if kept.model == model}
        oldest = [self._parcels[line[0][1]].accepted_at for line in self._lines[model].open(now)]
        return Waiting(
            len(parcels),
            sum(kept.items for kept in parcels.values()),
            sum(kept.tokens for kept in parcels.values()),
            len(parcels.keys() & self._in_hand),
            now - min(oldest) if oldest else None,
            sum(kept.tokens for kept in parcels.values() if self._jobs[kept.job_id].paused),
        )

    def queued_jobs(self, model_digest: str, limit: int) -> list[QueuedJob]:
        with self._lock:
            tokens: Counter[str] = Counter()
            for kept in self._parcels.values():
                if kept.model == model_digest:
                    tokens[kept.job_id] += kept.tokens
            known = ((self.report(job_id), count) for job_id, count in tokens.most_common())
            return [queued(report, count) for report, count in known if report][:limit]

    def dead_full(self) -> bool:
        return self.load().dead_bytes >= self._keeping.dead_max_bytes

    def dead_letters(
        self,
        limit: int,
        collection: str | None = None,
        job_id: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> list[DeadLetter]:
        choice = (collection, job_id, error, tenant)
        with self._lock:
            newest = (kept.letter for kept in reversed(self._letters.values()))
            return list(islice((letter for letter in newest if is_meant(letter, *choice)), limit))

    def dead_summary(self) -> dict[tuple[str, str], int]:
        with self._lock:
            return dict(Counter((kept.letter.error, kept.letter.collection) for kept in self._letters.values()))

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        kept = self._letters.get(letter_id)
        return None if kept is None else kept.letter

    def drop_dead(self, letter_ids: Iterable[str]) -> int:
        with self._lock:
            return sum(self._letters.pop(letter_id, None) is not None for letter_id in letter_ids)

    # who serves what

    def announce(self, info: EncoderInfo) -> None:
        with self._lock:
            self._models.pop(info.digest, None)
            self._models[info.digest] = info

    def models(self) -> list[EncoderInfo]:
        return list(self._models.values())[::-1]

    def heartbeat(self, worker_id: str, status: Mapping[str, object], ttl_s: float) -> None:
        # Through JSON, as Redis would: what cannot travel there must not pass here.
        self._workers[worker_id] = (self.now() + ttl_s, json.loads(json.dumps(status)))
        for it in standings(status):
            if it.tokens_per_s is not None:
                self._note_rate(it.model_digest, worker_id, it.tokens_per_s, ttl_s)

    def _note_rate(self, model_digest: str, worker_id: str, rate: float, ttl_s: float) -> None:
        now = self.now()
        said = self._rates.get(model_digest, {}) | {worker_id: (now + ttl_s, rate)}
        self._rates[model_digest] = {name: (until, each) for name, (until, each) in said.items() if until > now}

    def rate(self, model_digest: str) -> float | None:
        said = self._rates.get(model_digest)
        return None if said is None else fmean(rate for _, rate in said.values())

    def work_seconds(self, model_digest: str) -> int:
        there = self.waiting().get(model_digest, Waiting())
        return seconds_of(there.wanted_tokens, self.rate(model_digest) or TOKENS_PER_S)

    def workers(self) -> dict[str, dict[str, object]]:
        now = self.now()
        return {worker_id: status for worker_id, (until, status) in self._workers.items() if until > now}

    def now(self) -> float:
        return time.time()
