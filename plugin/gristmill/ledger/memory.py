"""The ledger in this process: the same laws, for embedded mode and unit tests. It ends with the process."""

from __future__ import annotations

import heapq
import json
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from gristmill.ledger.base import (
    MAX_INTENTS,
    NEWER_FORMAT_S,
    Accepted,
    Claim,
    HighWater,
    Load,
    Ticket,
    UnreadableParcel,
    Verdict,
    new_job_id,
    unreadable_letter,
)
from gristmill.ledger.roster import MemoryRoster
from gristmill_schemas import DeadLetter, EncoderInfo, Intent, JobReport, JobState, Parcel
from gristmill_schemas.errors import InvalidInput, NewerFormat
from gristmill_schemas.parcel import pack, unpack


@dataclass
class _Job:
    collection: str
    created_at: float
    counters: Counter[str] = field(default_factory=Counter)
    next_sequence: int = 0
    open_parcels: int = 0
    closed: bool = False
    finished_at: float | None = None


@dataclass
class _Parcel:
    #: Packed as in Redis, so that both ledgers hold the same bytes and bound the same memory.
    body: bytes
    job_id: str
    model: str
    collection: str
    items: int
    accepted_at: float
    attempts: int = 0
    token: str = ""
    lease_end: float = 0.0
    last_error: str = ""


@dataclass
class _Line:
    """One collection's parcels that wait for one model."""

    #: Heap of (when it is due, parcel id).
    waiting: list[tuple[float, str]] = field(default_factory=list)
    #: When one of them can be claimed next; the collection with the lowest goes first.
    turn: float = inf
    rests_until: float = 0.0

    def join(self, parcel_id: str, due: float, now: float) -> None:
        heapq.heappush(self.waiting, (due, parcel_id))
        self.turn = min(self.turn, max(now, due, self.rests_until))

    def rest(self, until: float) -> None:
        self.rests_until = max(until, self.rests_until)
        self.turn = max(self.turn, self.rests_until)

    def take(self, now: float) -> str | None:
        """The parcel that is due, if one is; the line goes to the back."""
        due_now = bool(self.waiting) and self.waiting[0][0] <= now
        taken = heapq.heappop(self.waiting)[1] if due_now else None
        self.turn = max(now, self.waiting[0][0], self.rests_until) if self.waiting else inf
        return taken


class MemoryLedger:
    """`Ledger` in memory."""

    def __init__(self, *, roster: bool = True) -> None:
        self._lock = threading.RLock()
        self._roster = MemoryRoster() if roster else None
        self._jobs: dict[str, _Job] = {}
        self._parcels: dict[str, _Parcel] = {}
        #: Ids of parcels that somebody claimed, so that looking for lapsed ones costs nothing per waiting one.
        self._in_hand: set[str] = set()
        #: Model, then collection.
        self._lines: defaultdict[str, defaultdict[str, _Line]] = defaultdict(lambda: defaultdict(_Line))
        self._tombs: dict[tuple[str, str], int] = {}
        self._intents: dict[str, Intent] = {}
        self._collections: set[str] = set()
        self._deleted: set[str] = set()
        self._letters: dict[str, DeadLetter] = {}
        self._models: dict[str, EncoderInfo] = {}
        self._workers: dict[str, tuple[float, dict[str, object]]] = {}
        self._turns: dict[str, tuple[str, float]] = {}
        self._clock = 0

    # producer

    def open_job(self, collection: str, job_id: str | None = None) -> Ticket:
        job_id = job_id or new_job_id()
        with self._lock:
            now = self.now()
            self._clock = max(int(now * 1_000_000), self._clock + 1)
            self._jobs[job_id] = _Job(collection=collection, created_at=now)
            return Ticket(job_id=job_id, version=self._clock, opened_at=now)

    def accept(self, parcel: Parcel, sequence: int, high_water: HighWater) -> Accepted:
        body = pack(parcel)
        with self._lock:
            job = self._jobs.get(parcel.job_id)
            if job is None:
                raise InvalidInput(f"job {parcel.job_id}: unknown or expired; `enqueue` again")
            if sequence < job.next_sequence:
                return Accepted.YES
            load = self.load()
            if load.documents and (
                load.documents + len(parcel) > high_water.documents or load.bytes + len(body) > high_water.bytes
            ):
                return Accepted.FULL
            kept = _Parcel(body, parcel.job_id, parcel.model_digest, parcel.collection, len(parcel), self.now())
            self._store(parcel.id, kept)
            job.next_sequence = sequence + 1
            job.counters["accepted"] += len(parcel)
            job.open_parcels += 1
            if self._roster is not None:
                self._roster.enrol(parcel, parcel.collection_key)
            return Accepted.YES

    def _store(self, parcel_id: str, kept: _Parcel) -> None:
        self._parcels[parcel_id] = kept
        self._lines[kept.model][kept.collection].join(parcel_id, kept.accepted_at, kept.accepted_at)

    def close_job(self, job_id: str, rejected: int = 0) -> None:
        with self._lock:
            if job := self._jobs.get(job_id):
                job.closed = True
                job.counters["rejected"] = rejected
                self._settle(job)

    def _settle(self, job: _Job) -> None:
        if job.closed and job.open_parcels == 0:
            job.finished_at = self.now()

    # worker

    def claim(self, model_digest: str, lease_s: float) -> Claim | None:
        with self._lock:
            parcel_id = self._left_by_a_silent_holder(model_digest) or self._next_in_line(model_digest)
            return None if parcel_id is None else self._take(parcel_id, lease_s)

    def _left_by_a_silent_holder(self, model_digest: str) -> str | None:
        return min(self._lapsed(model_digest), default=(0, None))[1]

    def _lapsed(self, model_digest: str) -> Iterator[tuple[float, str]]:
        now, in_hand = self.now(), ((self._parcels[parcel_id], parcel_id) for parcel_id in self._in_hand)
        return ((kept.lease_end, pid) for kept, pid in in_hand if kept.model == model_digest and kept.lease_end <= now)

    def _next_in_line(self, model_digest: str) -> str | None:
        now, lines = self.now(), self._lines[model_digest]
        while lines and (line := min(lines.values(), key=lambda each: each.turn)).turn <= now:
            if parcel_id := line.take(now):
                return parcel_id
        return None

    def _take(self, parcel_id: str, lease_s: float) -> Claim:
        kept = self._parcels[parcel_id]
        kept.token = uuid.uuid4().hex
        kept.lease_end = self.now() + lease_s
        self._in_hand.add(parcel_id)
        try:
            return Claim(unpack(kept.body), kept.attempts + 1, kept.token, kept.last_error)
        except NewerFormat:
            self._give_back(parcel_id, kept, self.now() + NEWER_FORMAT_S)
            raise
        except InvalidInput as error:
            self._park(parcel_id, kept, str(error))
            raise UnreadableParcel(f"{parcel_id}: {error}") from error

    def _park(self, parcel_id: str, kept: _Parcel, reason: str) -> None:
        self._drop(parcel_id)
        letter = unreadable_letter(parcel_id, kept.job_id, kept.collection, kept.model, reason, self.now())
        self._letters[letter.id] = letter
        job = self._jobs[kept.job_id]
        job.counters["dead"] += kept.items
        job.open_parcels -= 1
        self._settle(job)

    def _drop(self, parcel_id: str) -> None:
        del self._parcels[parcel_id]
        self._in_hand.discard(parcel_id)

    def _held(self, claim: Claim) -> _Parcel | None:
        kept = self._parcels.get(claim.parcel.id)
        return kept if kept is not None and kept.token == claim.token else None

    def begin(self, claim: Claim) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is not None:
                kept.attempts = claim.attempts
            return kept is not None

    def renew(self, claims: Sequence[Claim], lease_s: float) -> None:
        with self._lock:
            for claim in claims:
                if kept := self._held(claim):
                    kept.lease_end = self.now() + lease_s

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
        self._in_hand.discard(parcel_id)
        self._lines[kept.model][kept.collection].join(parcel_id, due, self.now())

    def rest(self, model_digest: str, collection: str, seconds: float) -> None:
        with self._lock:
            self._lines[model_digest][collection].rest(self.now() + seconds)

    def finish(self, claim: Claim, verdict: Verdict) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is None:
                return False
            self._drop(claim.parcel.id)
            self._letters.update({letter.id: letter for letter in verdict.letters})
            if job := self._jobs.get(kept.job_id):
                job.counters.update({outcome.value: count for outcome, count in verdict.outcomes.items()})
                job.counters.update(tokens=verdict.tokens, chunks=verdict.chunks, truncated=verdict.truncated)
                job.open_parcels -= 1
                self._settle(job)
            return True

    def split(self, claim: Claim, parts: Sequence[Parcel], attempts: int) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is None:
                return False
            self._drop(claim.parcel.id)
            now = self.now()
            for part in parts:
                fresh = _Parcel(pack(part), kept.job_id, kept.model, kept.collection, len(part), now, attempts=attempts)
                self._store(part.id, fresh)
            self._jobs[kept.job_id].open_parcels += len(parts) - 1
            return True

    def reroute(self, claim: Claim, parcel: Parcel) -> bool:
        with self._lock:
            kept = self._held(claim)
            if kept is None:
                return False
            kept.attempts, kept.model, kept.body = claim.attempts - 1, parcel.model_digest, pack(parcel)
            self._give_back(parcel.id, kept, self.now())
            return True

    # collections

    def note_collection(self, name: str) -> None:
        with self._lock:
            self._collections.add(name)
            self._deleted.discard(name)

    def note_deletion(self, name: str) -> None:
        with self._lock:
            self._collections.discard(name)
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
            lines = [line for line in self._lines[model_digest].values() if line.turn <= now]
            waiting = sum(due <= now for line in lines for due, _ in line.waiting)
            return waiting + len(list(self._lapsed(model_digest)))

    def forget_expired(self) -> int:
        return 0

    def take_turn(self, name: str, holder: str, lease_s: float) -> bool:
        with self._lock:
            current, until = self._turns.get(name, ("", 0.0))
            if current not in ("", holder) and until > self.now():
                return False
            self._turns[name] = (holder, self.now() + lease_s)
            return True

    # fence

    def bury(self, collection: str, versions: Mapping[str, int]) -> None:
        with self._lock:
            for point_id, version in versions.items():
                key = (collection, point_id)
                self._tombs[key] = max(version, self._tombs.get(key, version))

    def tombstones(self, collection: str, point_ids: Sequence[str]) -> dict[str, int]:
        with self._lock:
            return {pid: self._tombs[collection, pid] for pid in point_ids if (collection, pid) in self._tombs}

    def follow(self, parcel: Parcel, key: str) -> None:
        with self._lock:
            if self._roster is not None:
                self._roster.follow(parcel, key)

    def intend(self, intent: Intent) -> None:
        with self._lock:
            self._intents[intent.token] = intent
            while len(self._intents) > MAX_INTENTS:
                del self._intents[next(iter(self._intents))]

    def fulfil(self, token: str) -> None:
        with self._lock:
            self._intents.pop(token, None)

    def unfulfilled(self, limit: int) -> list[Intent]:
        with self._lock:
            held = {kept.token for kept in self._parcels.values()}
            return [intent for intent in reversed(self._intents.values()) if intent.token not in held][:limit]

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
                state=JobState.DONE if done else JobState.RUNNING if job.closed else JobState.OPEN,
                seconds=(job.finished_at or self.now()) - job.created_at,
                **job.counters,
            )

    def jobs(self, limit: int) -> list[JobReport]:
        with self._lock:
            newest = list(self._jobs)[::-1][:limit]
            return [report for job_id in newest if (report := self.report(job_id))]

    def load(self) -> Load:
        with self._lock:
            kept = self._parcels.values()
            return Load(len(kept), sum(p.items for p in kept), sum(len(p.body) for p in kept))

    def dead_letters(self, limit: int, collection: str | None = None, job_id: str | None = None) -> list[DeadLetter]:
        with self._lock:
            newest = list(self._letters.values())[::-1]
            asked = (letter for letter in newest if collection in (None, letter.collection, letter.collection_key))
            return [letter for letter in asked if job_id in (None, letter.job_id)][:limit]

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        return self._letters.get(letter_id)

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

    def workers(self) -> dict[str, dict[str, object]]:
        now = self.now()
        return {worker_id: status for worker_id, (until, status) in self._workers.items() if until > now}

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        return
