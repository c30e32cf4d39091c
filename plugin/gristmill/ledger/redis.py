"""The ledger in Redis. Layout and scripts: `scripts/_common.lua`; every change is one atomic script.

All keys start with `{<prefix>}`, so they share one hash slot and the scripts work on a cluster too. Every script may be
repeated after a lost answer without counting twice, which is what lets the connection retry by itself.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeVar, cast

import redis

from gristmill.ledger.base import (
    ALONE,
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
from gristmill.ledger.capacity import RATE_TTL_S, capacity_prelude, standings
from gristmill.ledger.connection import Headroom, broker_errors
from gristmill.ledger.costs import JOB, WEBHOOK, Costs
from gristmill.ledger.letters import (
    entry,
    is_of_job,
    is_of_tenant,
    pack_letter,
    read_letter,
    read_letters,
    without_text,
)
from gristmill.ledger.limits.base import AboveLimit, encoded_shares, shares_of
from gristmill.ledger.limits.redis import RedisTenants, encoded_limits, limits_prelude
from gristmill.ledger.order.ahead import Before
from gristmill.ledger.order.redis import TurnsInRedis
from gristmill.ledger.queues import cancelled, queued
from gristmill.ledger.roster import enrolment, graves_of, struck
from gristmill.ledger.scripting import Argument, Scripts
from gristmill.ledger.watch import Unwatched, Watch
from gristmill.ledger.webhooks.redis import RedisWebhooks
from gristmill.settings import ClientSettings
from gristmill_schemas import (
    DeadLetter,
    EncoderInfo,
    Intent,
    JobReport,
    JobState,
    Outcome,
    Parcel,
    Priority,
    QueuedJob,
    Retraction,
)
from gristmill_schemas.errors import GristmillError, InvalidInput, NewerFormat
from gristmill_schemas.parcel import pack, unpack

P = ParamSpec("P")
T = TypeVar("T")

_COUNTERS = (
    "accepted",
    *(outcome.value for outcome in Outcome),
    "rejected",
    "tokens",
    "chunks",
    "truncated",
    "encoded",
    "encoded_tokens",
)
_MICROS = 1_000_000
#: Jobs with due work that `backlog` counts parcel by parcel: 3 ms of Redis's time at most.
_LINES_COUNTED = 200
#: Paused jobs whose waiting parcels `claim` counts where a worker may have its share of the others; beyond, nobody has.
_PAUSED_COUNTED = 50
#: Jobs and letters that one look may forget.
_AT_ONCE = 1000
#: Letters read or dropped in one go.
_PAGE = 256
#: Announcements that are kept; the oldest go.
_MODELS_KEPT = 1000


def _translated(
    method: Callable[Concatenate[RedisLedger, P], T],
) -> Callable[Concatenate[RedisLedger, P], T]:
    @functools.wraps(method)
    def call(self: RedisLedger, *args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter()
        try:
            with broker_errors(self._url):
                return method(self, *args, **kwargs)
        except GristmillError as error:
            self.watch.failed(error)
            raise
        finally:
            self.watch.took(method.__name__, time.perf_counter() - began)

    return cast("Callable[Concatenate[RedisLedger, P], T]", call)


class RedisLedger:
    """`Ledger` on a Redis server."""

    def __init__(self, settings: ClientSettings, client: redis.Redis, keeping: Keeping | None = None) -> None:
        """`client`: the process's one pool; `keeping`: instead of what the settings say about it."""
        #: Told how long each call took, and what failed.
        self.watch: Watch = Unwatched()
        self._redis = client
        self._url = settings.redis_url
        self._prefix = f"{{{settings.key_prefix}}}"
        self._keeping = keeping or Keeping.of(settings)
        self._roster = settings.roster
        self._headroom = Headroom(self._redis)
        self._costs = Costs(settings.roster)
        prelude = Costs.prelude() + self._keeping.prelude() + limits_prelude()
        prelude += capacity_prelude(settings.scale_tokens_per_s)
        self._scripts = Scripts(self._redis, self._prefix, prelude)
        self._run = self._scripts.run
        self.webhooks = RedisWebhooks(client, self._url, self._prefix, self._run, self._report)
        self.tenants = RedisTenants(client, self._url, self._prefix, self.now)

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    # producer

    @_translated
    def open_job(
        self,
        collection: str,
        job_id: str | None = None,
        tenant: str | None = None,
        notify: str | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Ticket:
        job_id = job_id or new_job_id()
        version, now = self._run("open_job", job_id, collection, tenant or "", notify or "", priority)
        return Ticket(job_id=job_id, version=int(version), opened_at=int(now) / _MICROS)

    @_translated
    def accept(self, parcel: Parcel, sequence: int, high_water: HighWater, messages: int = 1) -> Accepted | AboveLimit:
        body = pack(parcel)
        size = self._costs.parcel(len(body), parcel, messages)
        if self._headroom.is_short(size):
            self._run("touch", parcel.job_id)
            return Accepted.NO_MEMORY
        try:
            answer = self._run("accept", *self._accepting(parcel, body, size, sequence, high_water))
        except redis.exceptions.OutOfMemoryError:
            self._run("touch", parcel.job_id)
            return Accepted.NO_MEMORY
        if answer == -2:
            raise cancelled(parcel.job_id)
        if answer == -1:
            raise InvalidInput(f"job {parcel.job_id}: unknown or expired; `enqueue` again")
        if isinstance(answer, list):
            tenant, measure, limit, waiting = answer
            return AboveLimit(tenant.decode(), measure.decode(), int(limit), int(waiting))
        return Accepted.YES if answer else Accepted.FULL

    def _accepting(
        self, parcel: Parcel, body: bytes, size: int, sequence: int, high_water: HighWater
    ) -> Iterator[Argument]:
        yield from (parcel.job_id, parcel.id, sequence, parcel.model_digest, len(parcel), parcel.tokens, body, size)
        yield from (high_water.documents, high_water.bytes, parcel.collection, parcel.collection_key)
        yield from (parcel.tenant or "", encoded_shares(shares_of(parcel)), encoded_limits(high_water.tenant))
        if self._roster:
            yield enrolment(parcel)

    @_translated
    def close_job(self, job_id: str, rejected: int = 0) -> None:
        self._run("close_job", job_id, rejected)

    # worker

    @_translated
    def claim(self, model_digest: str, lease_s: float, holding: Holding = ALONE) -> Claim | None:
        token = uuid.uuid4().hex
        answer = self._run(
            "claim", model_digest, token, int(lease_s * _MICROS), holding.parcels, holding.workers, _PAUSED_COUNTED
        )
        if answer is None:
            return None
        if not answer:
            raise EnoughHeld
        parcel_id, body, spent, last_error = answer[0].decode(), answer[1], int(answer[2]), answer[3].decode()
        found = frozenset(answer[4].decode().split())
        try:
            waited_s, taken_over = answer[5] / _MICROS, bool(answer[6])
            return Claim(unpack(body), spent + 1, token, last_error, found, waited_s, taken_over)
        except NewerFormat:
            self._run("release", parcel_id, token, "", "", int(NEWER_FORMAT_S * _MICROS))
            raise
        except InvalidInput as error:
            raise UnreadableParcel(f"{parcel_id}: {error}", self._park(parcel_id, token, str(error))) from error

    def _park(self, parcel_id: str, token: str, reason: str) -> int:
        """Returns how many items were counted as dead."""
        fields = self._redis.hmget(self._key("parcel", parcel_id), ["job", "collection", "model", "items"])
        job_id, collection, model, items = ((value or b"").decode() for value in cast("list[bytes | None]", fields))
        letter = unreadable_letter(parcel_id, job_id, collection, model, reason, self.now())
        return int(items or 0) if self._run("park", parcel_id, token, *entry(letter)) else 0

    @_translated
    def begin(self, claim: Claim) -> Begun:
        answer = self._run("begin", claim.parcel.id, claim.token, claim.attempts, claim.parcel.collection_key)
        return (Begun.NO, Begun.YES, Begun.CLEAR)[answer]

    @_translated
    def renew(self, claims: Sequence[Claim], lease_s: float, encoded: Mapping[str, Encoded] = NOTHING_ENCODED) -> None:
        if claims:
            far = [(claim, encoded.get(claim.token, Encoded())) for claim in claims]
            flat = [part for claim, it in far for part in (claim.parcel.id, claim.token, it.documents, it.tokens)]
            self._run("renew", int(lease_s * _MICROS), *flat)

    @_translated
    def release(self, claim: Claim, *, refund: bool, error: str = "", delay_s: float = 0.0) -> bool:
        spent = claim.attempts - 1 if refund else ""
        delay = int(delay_s * _MICROS)
        return bool(self._run("release", claim.parcel.id, claim.token, spent, error[:500], delay))

    @_translated
    def rest(self, model_digest: str, collection: str, seconds: float) -> None:
        self._run("rest", model_digest, collection, int(seconds * _MICROS))

    @_translated
    def note_found(self, claim: Claim, keys: Iterable[str]) -> bool:
        together = " ".join(sorted({*claim.found, *keys}))
        return bool(self._run("note_found", claim.parcel.id, claim.token, together))

    def finish(self, claim: Claim, verdict: Verdict) -> bool:
        verdict.check(claim.parcel)
        return self._finish(claim, verdict)

    @_translated
    def _finish(self, claim: Claim, verdict: Verdict) -> bool:
        counters: dict[str, int] = {outcome.value: count for outcome, count in verdict.outcomes.items() if count}
        counters |= {"tokens": verdict.tokens, "chunks": verdict.chunks, "truncated": verdict.truncated}
        flat = [part for pair in counters.items() for part in pair]
        letters = [part for letter in verdict.letters for part in entry(letter)]
        parcel = claim.parcel
        deleted = struck(parcel, verdict.letters) if self._roster and parcel.deletions else ""
        told = (parcel.id, claim.token, parcel.collection_key, deleted, len(counters))
        return bool(self._run("finish", *told, *flat, *letters))

    @_translated
    def split(self, claim: Claim, parts: Sequence[Parcel], attempts: int) -> bool:
        flat = [
            field
            for part in parts
            for field in (part.id, len(part), part.tokens, *self._packed(part), encoded_shares(shares_of(part)))
        ]
        return bool(self._run("split", claim.parcel.id, claim.token, attempts, *flat))

    def _packed(self, parcel: Parcel) -> tuple[bytes, int]:
        """Its body, and what it takes up without a message."""
        body = pack(parcel)
        return body, self._costs.parcel(len(body), parcel)

    @_translated
    def reroute(self, claim: Claim, parcel: Parcel) -> bool:
        spent = claim.attempts - 1
        packed = self._packed(parcel)
        return bool(self._run("reroute", claim.parcel.id, claim.token, spent, parcel.model_digest, *packed))

    # collections

    @_translated
    def note_collection(self, name: str, key: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.sadd(self._key("collections"), name)
        pipe.hsetnx(self._key("rosters"), name, key)
        pipe.unlink(self._key("deleted", name))
        pipe.execute()

    @_translated
    def note_deletion(self, name: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.srem(self._key("collections"), name)
        pipe.hdel(self._key("rosters"), name)
        pipe.set(self._key("deleted", name), 1, ex=self._keeping.tombstone_ttl_s)
        pipe.execute()

    @_translated
    def was_deleted(self, name: str) -> bool:
        return bool(self._redis.exists(self._key("deleted", name)))

    @_translated
    def known_collections(self) -> set[str]:
        return {raw.decode() for raw in cast("set[bytes]", self._redis.smembers(self._key("collections")))}

    # reconciler

    @_translated
    def backlog(self, model_digest: str) -> int:
        return int(self._run("backlog", model_digest, _LINES_COUNTED))

    @_translated
    def forget_expired(self) -> int:
        self._forget_texts()
        for raw in cast("set[bytes]", self._redis.smembers(self._key("cancelling"))):
            self._discard(raw.decode())
        return int(self._run("forget", self._keeping.producer_lease_s, _AT_ONCE))

    def _forget_texts(self) -> None:
        """The oldest letters lose their text; a mark says how far that has come."""
        mark, dead = self._key("bared"), self._key("dead")
        over = int((self.now() - self._keeping.letter_text_ttl_s) * _MICROS)
        since = (cast("bytes | None", self._redis.get(mark)) or b"0").decode()
        due = cast(
            "list[tuple[bytes, float]]",
            self._redis.zrangebyscore(dead, f"({since}", over, start=0, num=_AT_ONCE, withscores=True),
        )
        ids = [raw.decode() for raw, _ in due]
        for letter in read_letters(self._bodies(ids)):
            self._run("bare", letter.id, pack_letter(without_text(letter)))
        if due:
            self._redis.set(mark, f"{due[-1][1]:.0f}")

    def _bodies(self, letter_ids: Sequence[str]) -> list[bytes | None]:
        pipe = self._redis.pipeline(transaction=False)
        for letter_id in letter_ids:
            pipe.hget(self._key("letter", letter_id), "body")
        return cast("list[bytes | None]", pipe.execute())

    @_translated
    def take_turn(self, name: str, holder: str, lease_s: float) -> bool:
        return bool(self._run("take_turn", name, holder, int(lease_s * 1000)))

    # fence

    @_translated
    def bury(
        self,
        collection: str,
        versions: Mapping[str, int],
        owners: Mapping[str, str] = NOBODY,
        claim: Claim | None = None,
    ) -> bool:
        if not versions:
            return True
        held = ("", "") if claim is None else (claim.parcel.id, claim.token)
        graves = {tenant: graves_of(collection, tenant) for tenant in set(owners.values())}
        flat = [
            part
            for point, version in versions.items()
            for part in (point, version, graves.get(owners.get(point, ""), ""))
        ]
        return bool(self._run("bury", collection, self._keeping.tombstone_ttl_s, *held, *flat))

    @_translated
    def tombstones(self, collection: str, point_ids: Sequence[str]) -> dict[str, int]:
        # Most collections have none: then that is all there is to ask, and no id needs to be sent.
        days = cast("set[bytes]", self._redis.smembers(self._key("tombs", collection))) if point_ids else set()
        if not days:
            return {}
        pipe = self._redis.pipeline(transaction=False)
        for day in days:
            pipe.hmget(self._key("tomb", day.decode(), collection), point_ids)
        of_each = zip(point_ids, zip(*pipe.execute(), strict=True), strict=True)
        return {pid: max(map(int, filter(None, versions))) for pid, versions in of_each if any(versions)}

    @_translated
    def follow(self, parcel: Parcel, key: str) -> None:
        if self._roster:
            self._run("follow", parcel.collection_key, key, enrolment(parcel), struck(parcel))

    @_translated
    def intend(self, intent: Intent) -> bool:
        ttl_s, parcel = self._keeping.tombstone_ttl_s, intent.parcel_id
        return bool(self._run("intend", intent.token, intent.model_dump_json(), ttl_s, MAX_INTENTS, parcel))

    @_translated
    def fulfil(self, token: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.zrem(self._key("intents"), token)
        pipe.unlink(self._key("intent", token))
        pipe.execute()

    @_translated
    def unfulfilled(self, limit: int) -> list[Intent]:
        tokens = cast("list[bytes]", self._redis.zrevrange(self._key("intents"), 0, -1))
        found: list[Intent] = []
        for start in range(0, len(tokens), 256):
            keys = [self._key("intent", raw.decode()) for raw in tokens[start : start + 256]]
            bodies = cast("list[bytes | None]", self._redis.mget(keys))
            found += self._without_parcel(list(Intent.read_each(body for body in bodies if body is not None)))
            if len(found) >= limit:
                break
        return found[:limit]

    def _without_parcel(self, intents: list[Intent]) -> list[Intent]:
        pipe = self._redis.pipeline(transaction=False)
        for intent in intents:
            pipe.hget(self._key("parcel", intent.parcel_id), "token")
        return [intent for intent, token in zip(intents, pipe.execute(), strict=True) if token != intent.token.encode()]

    @_translated
    def retractions(self) -> list[Retraction]:
        ids = cast("list[bytes]", self._redis.zrange(self._key("retractions"), 0, -1))
        keys = [self._key("retraction", raw.decode()) for raw in ids]
        bodies = cast("list[bytes | None]", self._redis.mget(keys)) if keys else []
        return list(Retraction.read_each(body for body in bodies if body is not None))

    @_translated
    def lift(self, retraction_id: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.zrem(self._key("retractions"), retraction_id)
        pipe.unlink(self._key("retraction", retraction_id))
        pipe.execute()

    # steering

    @_translated
    def pause(self, job_id: str) -> bool:
        return bool(self._run("pause", job_id))

    @_translated
    def resume(self, job_id: str) -> Mapping[str, int] | None:
        answer = self._run("resume", job_id)
        if not isinstance(answer, list):
            return None
        return {model.decode(): parcels for model, parcels in zip(answer[::2], answer[1::2], strict=True)}

    @_translated
    def cancel(self, job_id: str) -> bool:
        if not self._run("cancel", job_id):
            return False
        self._discard(job_id)
        return True

    def _discard(self, job_id: str) -> None:
        """What nobody works on of a cancelled job ends, a page at a time: Redis serves others in between."""
        counted = cast("list[bytes]", self._redis.hkeys(self._key("load")))
        for model in [raw.decode().removeprefix("parcels:") for raw in counted if raw.startswith(b"parcels:")]:
            held = cast("list[bytes]", self._redis.zrangebyscore(self._key("held", model), "-inf", self._micros()))
            self._discard_each(job_id, held)
            waiting = self._key("waiting", model, job_id)
            while self._discard_each(job_id, cast("list[bytes]", self._redis.zrange(waiting, 0, _PAGE - 1))):
                pass

    def _discard_each(self, job_id: str, ids: Sequence[bytes]) -> int:
        pipe = self._redis.pipeline(transaction=False)
        for raw in ids:
            pipe.hget(self._key("parcel", raw.decode()), "body")
        read = zip(ids, pipe.execute(), strict=True)
        return sum(int(self._run("discard", raw.decode(), job_id, *self._enrolled(body))) for raw, body in read if body)

    def _enrolled(self, body: bytes) -> Iterator[str]:
        """Of a parcel, its collection's key and what the roster was told; nothing of one that cannot be read."""
        with contextlib.suppress(InvalidInput, NewerFormat):
            parcel = unpack(body)
            yield parcel.collection_key
            if self._roster:
                yield enrolment(parcel)

    def _micros(self) -> int:
        return int(self.now() * _MICROS)

    # people

    @_translated
    def report(self, job_id: str) -> JobReport | None:
        fields = cast("dict[bytes, bytes]", self._redis.hgetall(self._key("job", job_id)))
        return self._report(job_id, fields, self.now()) if fields else None

    @staticmethod
    def _report(job_id: str, fields: Mapping[bytes, bytes], now: float) -> JobReport:
        started = int(fields[b"created_at"]) / _MICROS
        finished = fields.get(b"finished_at")
        state = JobState.DONE if finished else JobState.RUNNING if fields[b"closed"] == b"1" else JobState.OPEN
        return JobReport(
            job_id=job_id,
            collection=fields[b"collection"].decode(),
            state=state,
            tenant=fields.get(b"tenant", b"").decode() or None,
            abandoned=b"abandoned" in fields,
            webhook=fields[b"webhook"].decode() if b"webhook" in fields else None,
            paused=b"paused" in fields,
            priority=Priority(fields.get(b"priority", b"normal").decode()),
            created_at=started,
            seconds=max(0.0, (int(finished) / _MICROS if finished else now) - started),
            **{name: int(fields.get(name.encode(), b"0")) for name in _COUNTERS},
        )

    @_translated
    def jobs(self, limit: int, tenant: str | None = None) -> list[JobReport]:
        reports = (each for page in self._job_pages(limit if tenant is None else _PAGE) for each in page)
        return list(itertools.islice((each for each in reports if tenant in (None, each.tenant)), limit))

    def _job_pages(self, size: int) -> Iterator[list[JobReport]]:
        """All jobs, newest first, so many at a time."""
        for start in itertools.count(step=size):
            ids = cast("list[bytes]", self._redis.zrevrange(self._key("jobs"), start, start + size - 1))
            yield [report for report in self._reports(ids) if report]
            if len(ids) < size:
                return

    def _reports(self, ids: Sequence[bytes]) -> list[JobReport | None]:
        pipe = self._redis.pipeline(transaction=False)
        for raw in ids:
            pipe.hgetall(self._key("job", raw.decode()))
        now, found = self.now(), zip(ids, pipe.execute(), strict=True)
        return [self._report(raw.decode(), fields, now) if fields else None for raw, fields in found]

    @_translated
    def load(self) -> Load:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._key("load"), ["parcels", "documents", "bytes", "dead_letters", "dead_bytes"])
        pipe.zcard(self._key("jobs"))
        pipe.zcard(self._key("webhooks"))
        fields, jobs, webhooks = pipe.execute()
        parcels, documents, size, letters, dead = (int(value or 0) for value in fields)
        return Load(parcels, documents, size + jobs * JOB + webhooks * WEBHOOK, letters, dead)

    @_translated
    def waiting(self) -> dict[str, Waiting]:
        found: list[tuple[bytes, ...]] = self._run("waiting", _LINES_COUNTED)
        return {
            model.decode(): Waiting(int(parcels), int(documents), int(tokens), int(held), _age(oldest), int(paused))
            for model, parcels, documents, tokens, held, oldest, paused in found
        }

    @_translated
    def queued_jobs(self, model_digest: str, limit: int) -> list[QueuedJob]:
        waiting = cast(
            "list[tuple[bytes, float]]",
            self._redis.zrevrange(self._key("queued", model_digest), 0, limit - 1, withscores=True),
        )
        reports = self._reports([raw for raw, _ in waiting])
        return [queued(report, int(tokens)) for report, (_, tokens) in zip(reports, waiting, strict=True) if report]

    @_translated
    def dead_full(self) -> bool:
        held = cast("bytes | None", self._redis.hget(self._key("load"), "dead_bytes"))
        return int(held or 0) >= self._keeping.dead_max_bytes

    @_translated
    def dead_letters(
        self,
        limit: int,
        collection: str | None = None,
        job_id: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> list[DeadLetter]:
        newest = heapq.merge(*map(self._newest, self._letter_indexes(collection, error)), reverse=True)
        ids = (raw.decode() for _, raw in newest if is_of_job(raw, job_id))
        found: list[DeadLetter] = []
        page = _PAGE if tenant is not None else min(_PAGE, limit)
        while len(found) < limit and (some := list(itertools.islice(ids, page))):
            found += (each for each in read_letters(self._bodies(some)) if is_of_tenant(each, tenant))
        return found[:limit]

    def _letter_indexes(self, collection: str | None = None, error: str | None = None) -> list[str]:
        """Indexes that together hold every letter of a collection, by the name that was asked for, and of an error."""
        if collection is None and error is None:
            return [self._key("dead")]
        groups = ((kind, name) for kind, name in sorted(self.dead_summary()) if error in (None, kind))
        return [self._key("dead", kind, name) for kind, name in groups if collection in (None, name)]

    def _newest(self, index: str) -> Iterator[tuple[float, bytes]]:
        for start in itertools.count(step=_PAGE):
            page = cast(
                "list[tuple[bytes, float]]", self._redis.zrevrange(index, start, start + _PAGE - 1, withscores=True)
            )
            yield from ((died_at, raw) for raw, died_at in page)
            if len(page) < _PAGE:
                return

    @_translated
    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        (body,) = self._bodies([letter_id])
        return read_letter(body) if body else None

    @_translated
    def dead_summary(self) -> dict[tuple[str, str], int]:
        counts = cast("dict[bytes, bytes]", self._redis.hgetall(self._key("dead_counts")))
        groups = ((*raw.decode().partition(":"), int(count)) for raw, count in counts.items())
        return {(error, collection): count for error, _, collection, count in groups}

    @_translated
    def drop_dead(self, letter_ids: Iterable[str]) -> int:
        ids = iter(letter_ids)
        dropped = 0
        while page := list(itertools.islice(ids, _PAGE)):
            dropped += int(self._run("drop_dead", *page))
        return dropped

    # who serves what

    @_translated
    def announce(self, info: EncoderInfo) -> None:
        self._run("announce", info.digest, info.model_dump_json(), _MODELS_KEPT)

    @_translated
    def models(self) -> list[EncoderInfo]:
        digests = cast("list[bytes]", self._redis.zrevrange(self._key("announced"), 0, -1))
        bodies = cast("list[bytes | None]", self._redis.hmget(self._key("models"), digests)) if digests else []
        return list(EncoderInfo.read_each(body for body in bodies if body))

    @_translated
    def heartbeat(self, worker_id: str, status: Mapping[str, object], ttl_s: float) -> None:
        of_each = [(it.model_digest, it.tokens_per_s or "", int(it.loading)) for it in standings(status)]
        flat = itertools.chain.from_iterable(of_each)
        self._run("heartbeat", worker_id, json.dumps(status), max(1, int(ttl_s * 1000)), RATE_TTL_S, *flat)

    @_translated
    def rate(self, model_digest: str) -> float | None:
        said = cast("bytes | None", self._redis.get(self._key("rate", model_digest)))
        return None if said is None else float(said)

    @_translated
    def work_seconds(self, model_digest: str) -> int:
        return self._redis.llen(self._key("seconds", model_digest))

    @_translated
    def workers(self) -> dict[str, dict[str, object]]:
        ids = sorted(cast("list[bytes]", self._redis.zrange(self._key("workers"), 0, -1)))
        keys = [self._key("worker").encode() + b":" + raw for raw in ids]
        bodies = cast("list[bytes | None]", self._redis.mget(keys)) if keys else []
        said = ((raw, _status(body)) for raw, body in zip(ids, bodies, strict=True) if body)
        return {raw.decode(errors="backslashreplace"): status for raw, status in said if status is not None}

    @_translated
    def before(self, job_id: str) -> Before | None:
        model = cast("bytes | None", self._redis.hget(self._key("job", job_id), "model"))
        if model is None:
            return None
        turns = TurnsInRedis(self._redis, self._key, model.decode(), job_id).read()
        return None if turns is None else turns.before()

    @_translated
    def now(self) -> float:
        seconds, micros = self._redis.time()
        return seconds + micros / _MICROS


def _age(micros: bytes) -> float | None:
    return int(micros) / _MICROS if micros else None


def _status(heartbeat: bytes) -> dict[str, object] | None:
    """What a worker says of itself; None where somebody else wrote there, which must not hide the workers beside it."""
    try:
        status = json.loads(heartbeat)
    except (ValueError, RecursionError):
        return None
    engines = status.get("engines", []) if isinstance(status, dict) else None
    return status if isinstance(engines, list) and all(isinstance(each, dict) for each in engines) else None
