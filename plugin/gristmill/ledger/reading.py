"""Evidence: what the ledger can say to people who ask where a document is. It reads; the work itself is `Ledger`'s.

Everything streams, so that asking costs no memory, however much is pending, dead or on the roster.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar, cast

from gristmill.ledger.connection import broker_errors
from gristmill.ledger.letters import is_meant, is_of_job, is_of_tenant, name_in, read_letters
from gristmill.ledger.memory import MemoryLedger
from gristmill.ledger.redis import RedisLedger
from gristmill.ledger.roster import Rostered, bucket_of, listing, name_of, newest, parse_name, used_buckets
from gristmill.ledger.traces import MemoryTraces, RedisTraces, Traces, Whose
from gristmill_schemas import DeadLetter, Parcel, RefusedMessage
from gristmill_schemas.errors import InvalidInput, NewerFormat
from gristmill_schemas.parcel import unpack

T = TypeVar("T")

#: Refused messages that are kept; older ones make room.
MAX_REFUSED = 1000
#: How long they are kept after the newest of them.
REFUSED_TTL_S = 30 * 86_400
_PAGE = 500
#: Letters read in one go: each may hold a text of a mebibyte.
_LETTERS = 32
_MICROS = 1_000_000


class Evidence(Protocol):
    """All that audits, receipts and lists of refused messages need to know."""

    #: Whether `accept` keeps a roster.
    keeps_roster: bool

    def pending(self, model_digest: str) -> Iterator[Parcel]:
        """Every parcel that was pending for a model from beginning to end of this call; none is taken.

        Some that came or went meanwhile are among them. Of all collections, since several names may mean one.
        """

    def letters(self, collection: str | None = None) -> Iterator[DeadLetter]:
        """Every dead letter of a collection, by the name that was asked for or by its key; or of all. In no order.

        Those that are dropped meanwhile may be left out.
        """

    def letters_until(
        self,
        died_at: float,
        collection: str | None = None,
        job_id: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> Iterator[DeadLetter]:
        """Dead letters oldest first, up to this time of the ledger's clock; as `Ledger.dead_letters` chooses them.

        Those read so far may be dropped meanwhile, and others may come: each that stays comes once.
        """

    def letters_of(self, key: str, document_id: str, tenant: str | None) -> list[DeadLetter]:
        """The dead letters of one document, in the collection of this key."""

    def roster(self, collection: str) -> Iterator[Rostered]:
        """Every document that a collection should hold, in no order."""

    def rostered(self, collection: str, document_id: str, tenant: str | None) -> int | None:
        """The highest accepted version of a document; None where it is not on the roster."""

    def enlist(self, collection: str, entries: Sequence[Rostered], *, looking: bool = False) -> list[Rostered]:
        """Put documents on the roster; returns those that it did not know, or knew an older version of.

        With `looking` nothing is changed.
        """

    def withdraw(self, collection: str, document_id: str, tenant: str | None, version: int) -> None:
        """Take one version of a document off the roster: it is expected as it was before."""

    def begin(self, name: str, collection: str) -> None:
        """A collection has just been made: forget the roster of one of its name that others have deleted.

        `collection` is the new one's key.
        """

    def forget(self, collection: str) -> None:
        """Forget the roster of a collection that is deleted."""

    def refuse(self, *messages: RefusedMessage) -> None:
        """Park messages that do not speak of work, oldest first."""

    def refused(self, limit: int) -> list[RefusedMessage]:
        """Refused messages, newest first."""

    def drop_refused(self) -> int:
        """Forget them; returns how many there were."""

    def unreadable(self) -> list[str]:
        """Ids of parked parcels whose bytes could not be read."""

    def traces(self, whose: Whose) -> Traces:
        """What there is of a tenant in a collection, to be counted and erased."""


class RedisEvidence:
    """`Evidence` in Redis."""

    def __init__(self, ledger: RedisLedger) -> None:
        self.keeps_roster = ledger._roster
        self._ledger = ledger
        self._redis = ledger._redis
        self._url = ledger._url
        self._key = ledger._key

    def pending(self, model_digest: str) -> Iterator[Parcel]:
        """See `Evidence.pending`."""
        seen: set[bytes] = set()
        # Waiting twice: a parcel that is given back between the two looks would be in neither.
        for look in (self._waiting, self._held, self._waiting):
            for ids in _pages(look(model_digest)):
                new = [raw for raw in ids if raw not in seen]
                seen.update(new)
                yield from self._parcels(new)

    def _waiting(self, model_digest: str) -> Iterator[bytes]:
        for job_id in self._scan(self._key("lines", model_digest)):
            yield from self._scan(self._key("waiting", model_digest, job_id.decode()))

    def _held(self, model_digest: str) -> Iterator[bytes]:
        return self._scan(self._key("held", model_digest))

    def _scan(self, index: str) -> Iterator[bytes]:
        with broker_errors(self._url):
            yield from (member for member, _ in self._redis.zscan_iter(index, count=_PAGE))

    def _parcels(self, ids: list[bytes]) -> Iterator[Parcel]:
        with broker_errors(self._url):
            pipe = self._redis.pipeline(transaction=False)
            for raw in ids:
                pipe.hget(self._key("parcel", raw.decode()), "body")
            bodies = cast("list[bytes | None]", pipe.execute())
        for body in bodies:
            try:
                if body is not None:
                    yield unpack(body)
            except (InvalidInput, NewerFormat):
                continue  # `claim` will park it, or leave it to a newer worker

    def letters(self, collection: str | None = None) -> Iterator[DeadLetter]:
        """See `Evidence.letters`."""
        for index in self._indexes(collection):
            yield from self._read(self._scan(index))
        if collection is None:
            return
        members = self._scan(self._key("letters_of", collection))
        by_key = self._read(member.rpartition(b"\0")[2] for member in members)
        yield from (letter for letter in by_key if letter.collection != collection)

    def _indexes(self, collection: str | None, error: str | None = None) -> list[str]:
        with broker_errors(self._url):
            return self._ledger._letter_indexes(collection, error)

    def letters_until(
        self,
        died_at: float,
        collection: str | None = None,
        job_id: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> Iterator[DeadLetter]:
        """See `Evidence.letters_until`."""
        until = round(died_at * _MICROS)
        oldest = heapq.merge(*(self._oldest(index, until) for index in self._indexes(collection, error)))
        letters = self._read(raw for _, raw in oldest if is_of_job(raw, job_id))
        yield from (letter for letter in letters if is_of_tenant(letter, tenant))

    def _oldest(self, index: str, until: int) -> Iterator[tuple[float, bytes]]:
        since = "-inf"
        while page := self._died(index, since, until, _PAGE):
            last = page[-1][0]
            if len(page) == _PAGE:
                # The letters of one parcel share their time: a page ends behind all of them.
                page = [each for each in page if each[0] < last] + self._died(index, f"{last:.0f}", last)
            yield from page
            since = f"({last:.0f}"

    def _died(self, index: str, since: str, until: float, count: int = -1) -> list[tuple[float, bytes]]:
        with broker_errors(self._url):
            found = self._redis.zrangebyscore(index, since, f"{until:.0f}", start=0, num=count, withscores=True)
        return [(died_at, raw) for raw, died_at in cast("list[tuple[bytes, float]]", found)]

    def letters_of(self, key: str, document_id: str, tenant: str | None) -> list[DeadLetter]:
        """See `Evidence.letters_of`."""
        name = name_of(document_id, tenant).encode()
        index = self._key("letters_of", key)
        with broker_errors(self._url):
            members = cast("list[bytes]", self._redis.zrangebylex(index, b"[" + name + b"\0", b"(" + name + b"\x01"))
        return list(self._read(member.rpartition(b"\0")[2] for member in members))

    def _read(self, ids: Iterable[bytes]) -> Iterator[DeadLetter]:
        for page in _pages(ids, _LETTERS):
            with broker_errors(self._url):
                bodies = self._ledger._bodies([raw.decode() for raw in page])
            yield from read_letters(bodies)

    def roster(self, collection: str) -> Iterator[Rostered]:
        """See `Evidence.roster`."""
        for keys in _pages(self._buckets(collection)):
            with broker_errors(self._url):
                pipe = self._redis.pipeline(transaction=False)
                for key in keys:
                    pipe.hgetall(key)
                buckets = cast("list[dict[bytes, bytes]]", pipe.execute())
                entries = [
                    (parse_name(name.decode()), newest(entry)) for each in buckets for name, entry in each.items()
                ]
            yield from (Rostered(*name, version) for name, version in entries)

    def _buckets(self, collection: str) -> Iterator[str]:
        with broker_errors(self._url):
            bitmap = cast("bytes | None", self._redis.get(self._key("roster", collection))) or b""
        return (self._key("roster", collection, str(number)) for number in used_buckets(bitmap))

    def rostered(self, collection: str, document_id: str, tenant: str | None) -> int | None:
        """See `Evidence.rostered`."""
        name = name_of(document_id, tenant)
        with broker_errors(self._url):
            key = self._key("roster", collection, str(bucket_of(name)))
            entry = cast("bytes | None", self._redis.hget(key, name))
            return None if entry is None else newest(entry)

    def enlist(self, collection: str, entries: Sequence[Rostered], *, looking: bool = False) -> list[Rostered]:
        """See `Evidence.enlist`."""
        with broker_errors(self._url):
            return [entries[n] for n in self._ledger._run("enlist", collection, listing(entries), int(looking))]

    def withdraw(self, collection: str, document_id: str, tenant: str | None, version: int) -> None:
        """See `Evidence.withdraw`."""
        name = name_of(document_id, tenant)
        with broker_errors(self._url):
            self._ledger._run("withdraw", collection, bucket_of(name), name, version)

    def begin(self, name: str, collection: str) -> None:
        """See `Evidence.begin`."""
        rosters = self._key("rosters")
        with broker_errors(self._url):
            before = cast("bytes | None", self._redis.hget(rosters, name))
        if before is not None and before.decode() != collection:
            self.forget(before.decode())
        with broker_errors(self._url):
            self._redis.hset(rosters, name, collection)

    def forget(self, collection: str) -> None:
        """See `Evidence.forget`."""
        for keys in _pages(self._buckets(collection)):
            with broker_errors(self._url):
                self._redis.unlink(*keys)
        with broker_errors(self._url):
            self._redis.unlink(self._key("roster", collection))

    def refuse(self, *messages: RefusedMessage) -> None:
        """See `Evidence.refuse`."""
        with broker_errors(self._url):
            pipe = self._redis.pipeline(transaction=True)
            pipe.lpush(self._key("refused"), *(message.model_dump_json() for message in messages))
            pipe.ltrim(self._key("refused"), 0, MAX_REFUSED - 1)
            pipe.expire(self._key("refused"), REFUSED_TTL_S)
            pipe.execute()

    def refused(self, limit: int) -> list[RefusedMessage]:
        """See `Evidence.refused`."""
        with broker_errors(self._url):
            bodies = cast("list[bytes]", self._redis.lrange(self._key("refused"), 0, limit - 1))
        return list(RefusedMessage.read_each(bodies))

    def drop_refused(self) -> int:
        """See `Evidence.drop_refused`."""
        with broker_errors(self._url):
            pipe = self._redis.pipeline(transaction=True)
            pipe.llen(self._key("refused"))
            pipe.unlink(self._key("refused"))
            return int(pipe.execute()[0])

    def traces(self, whose: Whose) -> Traces:
        """See `Evidence.traces`."""
        return RedisTraces(self._ledger, whose)

    def unreadable(self) -> list[str]:
        """See `Evidence.unreadable`."""
        with broker_errors(self._url):
            return sorted(
                raw.decode() for raw in cast("list[bytes]", self._redis.zrange(self._key("unreadable"), 0, -1))
            )


class MemoryEvidence:
    """`Evidence` in this process; nothing comes through a broker here, so nothing is refused."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._roster = ledger._roster
        self.keeps_roster = self._roster is not None

    def pending(self, model_digest: str) -> Iterator[Parcel]:
        """See `Evidence.pending`."""
        with self._ledger._lock:
            bodies = [each.body for each in self._ledger._parcels.values() if each.model == model_digest]
        return (unpack(body) for body in bodies)

    def letters(self, collection: str | None = None) -> Iterator[DeadLetter]:
        """See `Evidence.letters`."""
        with self._ledger._lock:
            letters = [kept.letter for kept in self._ledger._letters.values()]
        return (each for each in letters if collection in (None, each.collection, each.collection_key))

    def letters_until(
        self,
        died_at: float,
        collection: str | None = None,
        job_id: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> Iterator[DeadLetter]:
        """See `Evidence.letters_until`."""
        with self._ledger._lock:
            ids = [letter_id for letter_id, kept in self._ledger._letters.items() if kept.died_at <= died_at]
        letters = (letter for letter_id in ids if (letter := self._ledger.dead_letter(letter_id)) is not None)
        return (letter for letter in letters if is_meant(letter, collection, job_id, error, tenant))

    def letters_of(self, key: str, document_id: str, tenant: str | None) -> list[DeadLetter]:
        """See `Evidence.letters_of`."""
        name = name_of(document_id, tenant)
        return [letter for letter in self.letters(key) if name_in(letter) == name]

    def roster(self, collection: str) -> Iterator[Rostered]:
        """See `Evidence.roster`."""
        with self._ledger._lock:
            known = list(self._roster.versions(collection).items()) if self._roster else []
        return (Rostered(*parse_name(name), version) for name, version in known)

    def rostered(self, collection: str, document_id: str, tenant: str | None) -> int | None:
        """See `Evidence.rostered`."""
        return self._roster.version(collection, name_of(document_id, tenant)) if self._roster else None

    def enlist(self, collection: str, entries: Sequence[Rostered], *, looking: bool = False) -> list[Rostered]:
        """See `Evidence.enlist`."""
        with self._ledger._lock:
            return self._roster.enlist(collection, entries, looking=looking) if self._roster else []

    def withdraw(self, collection: str, document_id: str, tenant: str | None, version: int) -> None:
        """See `Evidence.withdraw`."""
        with self._ledger._lock:
            if self._roster:
                self._roster.withdraw_one(collection, document_id, tenant, version)

    def begin(self, name: str, collection: str) -> None:
        """See `Evidence.begin`."""
        with self._ledger._lock:
            before = self._ledger._rosters.get(name, collection)
            if self._roster and before != collection:
                self._roster.forget(before)
            self._ledger._rosters[name] = collection

    def forget(self, collection: str) -> None:
        """See `Evidence.forget`."""
        with self._ledger._lock:
            if self._roster:
                self._roster.forget(collection)

    def refuse(self, *messages: RefusedMessage) -> None:
        """See `Evidence.refuse`."""

    def refused(self, limit: int) -> list[RefusedMessage]:
        """See `Evidence.refused`."""
        return []

    def drop_refused(self) -> int:
        """See `Evidence.drop_refused`."""
        return 0

    def traces(self, whose: Whose) -> Traces:
        """See `Evidence.traces`."""
        return MemoryTraces(self._ledger, whose)

    def unreadable(self) -> list[str]:
        """See `Evidence.unreadable`."""
        return []


def _pages(items: Iterable[T], size: int = _PAGE) -> Iterator[list[T]]:
    iterator = iter(items)
    while page := list(islice(iterator, size)):
        yield page
