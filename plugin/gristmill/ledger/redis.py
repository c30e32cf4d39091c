"""The ledger in Redis. Layout and scripts: `scripts/_common.lua`; every change is one atomic script.

All keys start with `{<prefix>}`, so they share one hash slot and the scripts work on a cluster too. Every script may be
repeated after a lost answer without counting twice, which is what lets the connection retry by itself.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeVar, cast

import redis

from gristmill.ledger.base import (
    MAX_INTENTS,
    NEWER_FORMAT_S,
    NOBODY,
    NOTHING_ENCODED,
    Accepted,
    Begun,
    Claim,
    Encoded,
    HighWater,
    Keeping,
    Load,
    Ticket,
    UnreadableParcel,
    Verdict,
    new_job_id,
    unreadable_letter,
)
from gristmill.ledger.connection import Headroom, broker_errors
from gristmill.ledger.costs import JOB, Costs
from gristmill.ledger.letters import (
    entry,
    is_of_job,
    is_of_tenant,
    pack_letter,
    read_letter,
    read_letters,
    without_text,
)
from gristmill.ledger.roster import enrolment, graves_of
from gristmill.ledger.scripting import Argument, Scripts
from gristmill.settings import ClientSettings
from gristmill_schemas import DeadLetter, EncoderInfo, Intent, JobReport, JobState, Outcome, Parcel, Retraction
from gristmill_schemas.errors import InvalidInput, NewerFormat
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
#: Collections with due work that `backlog` counts parcel by parcel: 3 ms of Redis's time at most.
_COLLECTIONS_COUNTED = 200
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
        with broker_errors(self._url):
            return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[RedisLedger, P], T]", call)


class RedisLedger:
    """`Ledger` on a Redis server."""

    def __init__(self, settings: ClientSettings, client: redis.Redis, keeping: Keeping | None = None) -> None:
        """`client`: the process's one pool; `keeping`: instead of what the settings say about it."""
        self._redis = client
        self._url = settings.redis_url
        self._prefix = f"{{{settings.key_prefix}}}"
        self._keeping = keeping or Keeping.of(settings)
        self._roster = settings.roster
        self._headroom = Headroom(self._redis)
        self._costs = Costs(settings.roster)
        prelude = Costs.prelude() + self._keeping.prelude()
        self._scripts = Scripts(self._redis, self._prefix, prelude)
        self._run = self._scripts.run

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    # producer

    @_translated
    def open_job(self, collection: str, job_id: str | None = None, tenant: str | None = None) -> Ticket:
        job_id = job_id or new_job_id()
        version, now = self._run("open_job", job_id, collection, tenant or "")
        return Ticket(job_id=job_id, version=int(version), opened_at=int(now) / _MICROS)

    @_translated
    def accept(self, parcel: Parcel, sequence: int, high_water: HighWater, messages: int = 1) -> Accepted:
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
        if answer == -1:
            raise InvalidInput(f"job {parcel.job_id}: unknown or expired; `enqueue` again")
        return Accepted.YES if answer else Accepted.FULL

    def _accepting(
        self, parcel: Parcel, body: bytes, size: int, sequence: int, high_water: HighWater
    ) -> Iterator[Argument]:
        yield from (parcel.job_id, parcel.id, sequence, parcel.model_digest, len(parcel), body, size)
        yield from (high_water.documents, high_water.bytes, parcel.collection, parcel.collection_key)
        yield parcel.tenant or ""
        if self._roster:
            yield enrolment(parcel)

    @_translated
    def close_job(self, job_id: str, rejected: int = 0) -> None:
        self._run("close_job", job_id, rejected)

    # worker

    @_translated
    def claim(self, model_digest: str, lease_s: float) -> Claim | None:
        token = uuid.uuid4().hex
        answer = self._run("claim", model_digest, token, int(lease_s * _MICROS))
        if answer is None:
            return None
        parcel_id, body, spent, last_error = answer[0].decode(), answer[1], int(answer[2]), answer[3].decode()
        found = frozenset(answer[4].decode().split())
        try:
            return Claim(unpack(body), attempts=spent + 1, token=token, last_error=last_error, found=found)
        except NewerFormat:
            self._run("release", parcel_id, token, "", "", int(NEWER_FORMAT_S * _MICROS))
            raise
        except InvalidInput as error:
            self._park(parcel_id, token, str(error))
            raise UnreadableParcel(f"{parcel_id}: {error}") from error

    def _park(self, parcel_id: str, token: str, reason: str) -> None:
        fields = self._redis.hmget(self._key("parcel", parcel_id), ["job", "collection", "model"])
        job_id, collection, model = ((value or b"").decode() for value in cast("list[bytes | None]", fields))
        letter = unreadable_letter(parcel_id, job_id, collection, model, reason, self.now())
        self._run("park", parcel_id, token, *entry(letter))

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
        return bool(self._run("finish", claim.parcel.id, claim.token, len(counters), *flat, *letters))

    @_translated
    def split(self, claim: Claim, parts: Sequence[Parcel], attempts: int) -> bool:
        flat = [field for part in parts for field in (part.id, len(part), *self._packed(part))]
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
    def note_collection(self, name: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.sadd(self._key("collections"), name)
        pipe.unlink(self._key("deleted", name))
        pipe.execute()

    @_translated
    def note_deletion(self, name: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.srem(self._key("collections"), name)
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
        return int(self._run("backlog", model_digest, _COLLECTIONS_COUNTED))

    @_translated
    def forget_expired(self) -> int:
        self._forget_texts()
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
            self._run("follow", parcel.collection_key, key, enrolment(parcel))

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
        now = self.now()
        for start in itertools.count(step=size):
            ids = cast("list[bytes]", self._redis.zrevrange(self._key("jobs"), start, start + size - 1))
            pipe = self._redis.pipeline(transaction=False)
            for raw in ids:
                pipe.hgetall(self._key("job", raw.decode()))
            found = zip(ids, pipe.execute(), strict=True)
            yield [self._report(raw.decode(), fields, now) for raw, fields in found if fields]
            if len(ids) < size:
                return

    @_translated
    def load(self) -> Load:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._key("load"), ["parcels", "documents", "bytes", "dead_letters", "dead_bytes"])
        pipe.zcard(self._key("jobs"))
        fields, jobs = pipe.execute()
        parcels, documents, size, letters, dead = (int(value or 0) for value in fields)
        return Load(parcels, documents, size + jobs * JOB, letters, dead)

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
        self._run("heartbeat", worker_id, json.dumps(status), max(1, int(ttl_s * 1000)))

    @_translated
    def workers(self) -> dict[str, dict[str, object]]:
        ids = sorted(cast("list[bytes]", self._redis.zrange(self._key("workers"), 0, -1)))
        keys = [self._key("worker").encode() + b":" + raw for raw in ids]
        bodies = cast("list[bytes | None]", self._redis.mget(keys)) if keys else []
        said = ((raw, _status(body)) for raw, body in zip(ids, bodies, strict=True) if body)
        return {raw.decode(errors="backslashreplace"): status for raw, status in said if status is not None}

    @_translated
    def others(self, job_id: str) -> int:
        job = self._redis.hmget(self._key("job", job_id), ["model", "accepted", *Outcome])
        model, *counted = cast("list[bytes | None]", job)
        if model is None:
            return 0
        accepted, *finished = (int(each or 0) for each in counted)
        held = cast("bytes | None", self._redis.hget(self._key("load"), f"documents:{model.decode()}"))
        return max(0, int(held or 0) - (accepted - sum(finished)))

    @_translated
    def now(self) -> float:
        seconds, micros = self._redis.time()
        return seconds + micros / _MICROS


def _status(heartbeat: bytes) -> dict[str, object] | None:
    """What a worker says of itself; None where somebody else wrote there, which must not hide the workers beside it."""
    try:
        status = json.loads(heartbeat)
    except (ValueError, RecursionError):
        return None
    engines = status.get("engines", []) if isinstance(status, dict) else None
    return status if isinstance(engines, list) and all(isinstance(each, dict) for each in engines) else None
