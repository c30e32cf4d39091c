"""Traces: what the ledger holds of one tenant in one collection, counted and erased place by place.

A parcel may hold documents of several tenants, and somebody may be working on it. What is the tenant's is taken out of it in
one step, and whoever held it holds it no more: it can note no intent and no deletion after that, and its verdict does not
count. What it has noted before is turned into a `Retraction`, by which whatever it still writes is taken back. So nobody has
to be stopped or waited for, and nothing that names the tenant has to stay.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from gristmill.ledger.connection import broker_errors
from gristmill.ledger.limits.base import encoded_shares, shares_of
from gristmill.ledger.memory import MemoryLedger
from gristmill.ledger.redis import RedisLedger
from gristmill.ledger.roster import graves_of, name_of, used_buckets
from gristmill_schemas import Intent, Parcel, Retraction, point_id
from gristmill_schemas.errors import InvalidInput, NewerFormat
from gristmill_schemas.parcel import pack, unpack

T = TypeVar("T")

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Whose:
    """A tenant in a collection."""

    tenant: str
    #: `CollectionSpec.key`, and every name that means the collection now.
    key: str
    names: frozenset[str]

    def concerns(self, parcel: Parcel) -> int:
        """How many items of a parcel are the tenant's."""
        meant = parcel.collection_key == self.key or parcel.collection in self.names
        return sum(item.tenant == self.tenant for item in parcel.items) if meant else 0

    def without(self, parcel: Parcel) -> Parcel:
        """What is left of a parcel."""
        documents = tuple(item for item in parcel.documents if item.tenant != self.tenant)
        deletions = tuple(item for item in parcel.deletions if item.tenant != self.tenant)
        return parcel.model_copy(update={"documents": documents, "deletions": deletions})

    def points(self, parcel: Parcel) -> list[str]:
        """Point ids of the tenant's items in a parcel."""
        return [point_id(item.id, item.tenant) for item in parcel.items if item.tenant == self.tenant]

    def intends(self, intent: Intent) -> bool:
        """Whether somebody has said to be about to write a document of the tenant."""
        return intent.key == self.key and any(owner == self.tenant for _, owner in intent.documents)

    def retraction(self, intent: Intent) -> Retraction:
        """What is to be taken back of an intent."""
        of_each = zip(intent.documents, intent.contents, strict=True)
        contents = tuple(content for (_, owner), content in of_each if owner == self.tenant)
        return Retraction(
            id=uuid.uuid4().hex,
            token=intent.token,
            collection=intent.collection,
            key=intent.key,
            job_id=intent.job_id,
            contents=contents,
        )

    def reduced(self, intent: Intent) -> Intent:
        """What is left of an intent."""
        kept = [number for number, (_, owner) in enumerate(intent.documents) if owner != self.tenant]
        documents, contents = (tuple(each[n] for n in kept) for each in (intent.documents, intent.contents))
        return intent.model_copy(update={"documents": documents, "contents": contents})


class Traces(Protocol):
    """What the ledger holds of a tenant. Of two methods the first counts a place, the second erases it and says how much."""

    def pending(self) -> int:
        """Items on their way, in hand or not."""

    def expel(self, publish: Callable[[str], None]) -> int:
        """Take the items out of their parcels, and these from whoever works on them; `publish` tells of parcels that so wait
        again, by their model. Their jobs count the items as `gone`."""

    def intents(self) -> int:
        """Notes of claims that name documents of the tenant."""

    def retract(self) -> list[str]:
        """Turn them into retractions; returns the ids of those."""

    def rostered(self) -> int:
        """Documents on the roster."""

    def strike(self) -> int:
        """Take them off."""

    def buried(self) -> int:
        """Deletions that are remembered."""

    def exhume(self) -> int:
        """Forget them."""

    def jobs(self) -> int:
        """Jobs that name the tenant, and webhooks that are to tell of such a job."""

    def disown(self) -> int:
        """Let them name nobody."""


class RedisTraces:
    """`Traces` in Redis."""

    def __init__(self, ledger: RedisLedger, whose: Whose) -> None:
        self._ledger = ledger
        self._redis = ledger._redis
        self._key = ledger._key
        self._whose = whose

    # parcels

    def pending(self) -> int:
        """See `Traces.pending`."""
        found = {parcel.id: self._whose.concerns(parcel) for _, parcel in self._parcels()}
        return sum(found.values())

    def expel(self, publish: Callable[[str], None]) -> int:
        """See `Traces.expel`."""
        gone = 0
        for body, parcel in self._parcels():
            left = self._whose.without(parcel)
            fewer = pack(left) if len(left) else b""
            size = self._ledger._costs.parcel(len(fewer), left)
            points = " ".join(self._whose.points(parcel))
            shrunk, shares = (fewer, len(left), left.tokens, size), encoded_shares(shares_of(left))
            with broker_errors(self._ledger._url):
                taken, was_held = self._ledger._run("expel", parcel.id, body, *shrunk, points, shares)
            gone += int(taken)
            if was_held:
                publish(parcel.model_digest)
        return gone

    def _parcels(self) -> Iterator[tuple[bytes, Parcel]]:
        """Those with items of the tenant, with their bytes; one that moves meanwhile may come twice."""
        for ids in _pages(self._ids()):
            with broker_errors(self._ledger._url):
                pipe = self._redis.pipeline(transaction=False)
                for raw in ids:
                    pipe.hget(self._key("parcel", raw.decode()), "body")
                bodies = cast("list[bytes | None]", pipe.execute())
            read = ((body, _read(body)) for body in bodies if body)
            yield from ((body, parcel) for body, parcel in read if parcel and self._whose.concerns(parcel))

    def _ids(self) -> Iterator[bytes]:
        for model in self._models():
            # Waiting twice: a parcel that is given back between the two looks would be in neither.
            for look in (self._waiting, self._held, self._waiting):
                yield from look(model)

    def _models(self) -> list[str]:
        """Of whatever waits: a name may have meant a collection of another model."""
        with broker_errors(self._ledger._url):
            counted = cast("list[bytes]", self._redis.hkeys(self._key("load")))
        names = (raw.decode().partition(":") for raw in counted)
        return [model for kind, _, model in names if kind == "documents" and model]

    def _waiting(self, model: str) -> Iterator[bytes]:
        for job_id in self._scan(self._key("lines", model)):
            yield from self._scan(self._key("waiting", model, job_id.decode()))

    def _held(self, model: str) -> Iterator[bytes]:
        return self._scan(self._key("held", model))

    def _scan(self, index: str) -> Iterator[bytes]:
        with broker_errors(self._ledger._url):
            yield from (member for member, _ in self._redis.zscan_iter(index, count=_PAGE))

    # intents

    def intents(self) -> int:
        """See `Traces.intents`."""
        return sum(1 for _ in self._intents())

    def retract(self) -> list[str]:
        """See `Traces.retract`."""
        made: list[str] = []
        for body, intent in self._intents():
            left, retraction = self._whose.reduced(intent), self._whose.retraction(intent)
            rest = left.model_dump_json() if left.documents else ""
            ttl_s = self._ledger._keeping.tombstone_ttl_s
            with broker_errors(self._ledger._url):
                if self._ledger._run(
                    "retract", intent.token, body, rest, retraction.id, retraction.model_dump_json(), ttl_s
                ):
                    made.append(retraction.id)
        return made

    def _intents(self) -> Iterator[tuple[bytes, Intent]]:
        with broker_errors(self._ledger._url):
            tokens = cast("list[bytes]", self._redis.zrange(self._key("intents"), 0, -1))
        for page in _pages(tokens):
            with broker_errors(self._ledger._url):
                bodies = cast(
                    "list[bytes | None]", self._redis.mget([self._key("intent", raw.decode()) for raw in page])
                )
            for body in filter(None, bodies):
                yield from ((body, intent) for intent in Intent.read_each([body]) if self._whose.intends(intent))

    # roster

    def rostered(self) -> int:
        """See `Traces.rostered`."""
        return sum(len(names) for _, names in self._rostered())

    def strike(self) -> int:
        """See `Traces.strike`."""
        struck = 0
        for key, names in self._rostered():
            with broker_errors(self._ledger._url):
                struck += self._redis.hdel(key, *names)
        return struck

    def _rostered(self) -> Iterator[tuple[str, list[bytes]]]:
        """The buckets that hold names of the tenant, and these."""
        begins = name_of("", self._whose.tenant).encode()
        with broker_errors(self._ledger._url):
            bitmap = cast("bytes | None", self._redis.get(self._key("roster", self._whose.key))) or b""
        for keys in _pages(self._key("roster", self._whose.key, str(number)) for number in used_buckets(bitmap)):
            with broker_errors(self._ledger._url):
                pipe = self._redis.pipeline(transaction=False)
                for key in keys:
                    pipe.hkeys(key)
                buckets = cast("list[list[bytes]]", pipe.execute())
            for key, names in zip(keys, buckets, strict=True):
                if theirs := [name for name in names if name.startswith(begins)]:
                    yield key, theirs

    # tombstones

    def buried(self) -> int:
        """See `Traces.buried`."""
        with broker_errors(self._ledger._url):
            days = cast("set[bytes]", self._redis.smembers(self._key("tombs", self._whose.key)))
            pipe = self._redis.pipeline(transaction=False)
            for day in days:
                pipe.scard(self._key("graves", day.decode(), graves_of(self._whose.key, self._whose.tenant)))
            return sum(pipe.execute())

    def exhume(self) -> int:
        """See `Traces.exhume`."""
        graves, forgotten = graves_of(self._whose.key, self._whose.tenant), 0
        with broker_errors(self._ledger._url):
            while some := int(self._ledger._run("exhume", self._whose.key, graves, _PAGE)):
                forgotten += some
        return forgotten

    # jobs

    def jobs(self) -> int:
        """See `Traces.jobs`."""
        return sum(1 for _ in self._naming("jobs", "job")) + sum(1 for _ in self._naming("webhooks", "webhook"))

    def disown(self) -> int:
        """See `Traces.disown`."""
        with broker_errors(self._ledger._url):
            jobs = sum(
                int(self._ledger._run("disown", name, self._whose.tenant)) for name in self._naming("jobs", "job")
            )
            webhooks = [self._key("webhook", name) for name in self._naming("webhooks", "webhook")]
            return jobs + sum(int(self._redis.hdel(webhook, "tenant")) for webhook in webhooks)

    def _naming(self, index: str, kind: str) -> Iterator[str]:
        """Names of those of an index that are the tenant's."""
        for names in _pages(raw.decode() for raw in self._scan(self._key(index))):
            with broker_errors(self._ledger._url):
                pipe = self._redis.pipeline(transaction=False)
                for name in names:
                    pipe.hmget(self._key(kind, name), ["tenant", "collection"])
                found = cast("list[list[bytes | None]]", pipe.execute())
            for name, (tenant, collection) in zip(names, found, strict=True):
                if tenant == self._whose.tenant.encode() and (collection or b"").decode() in self._whose.names:
                    yield name


class MemoryTraces:
    """`Traces` in this process."""

    def __init__(self, ledger: MemoryLedger, whose: Whose) -> None:
        self._ledger = ledger
        self._whose = whose

    def pending(self) -> int:
        """See `Traces.pending`."""
        with self._ledger._lock:
            return sum(self._whose.concerns(unpack(kept.body)) for kept in self._ledger._parcels.values())

    def expel(self, publish: Callable[[str], None]) -> int:
        """See `Traces.expel`."""
        gone = 0
        with self._ledger._lock:
            for parcel_id, kept in list(self._ledger._parcels.items()):
                parcel = unpack(kept.body)
                if concerned := self._whose.concerns(parcel):
                    if self._ledger._reduce(parcel_id, self._whose.without(parcel), self._whose.points(parcel)):
                        publish(parcel.model_digest)
                    gone += concerned
        return gone

    def intents(self) -> int:
        """See `Traces.intents`."""
        with self._ledger._lock:
            return sum(map(self._whose.intends, self._ledger._intents.values()))

    def retract(self) -> list[str]:
        """See `Traces.retract`."""
        made: list[str] = []
        with self._ledger._lock:
            for intent in [each for each in self._ledger._intents.values() if self._whose.intends(each)]:
                left, retraction = self._whose.reduced(intent), self._whose.retraction(intent)
                if left.documents:
                    self._ledger._intents[intent.token] = left
                else:
                    del self._ledger._intents[intent.token]
                self._ledger._retractions[retraction.id] = retraction
                made.append(retraction.id)
        return made

    def rostered(self) -> int:
        """See `Traces.rostered`."""
        with self._ledger._lock:
            return len(self._rostered())

    def strike(self) -> int:
        """See `Traces.strike`."""
        with self._ledger._lock:
            names, roster = self._rostered(), self._ledger._roster
            if roster is not None:
                for name in names:
                    roster.drop(self._whose.key, name)
            return len(names)

    def _rostered(self) -> list[str]:
        begins, roster = name_of("", self._whose.tenant), self._ledger._roster
        known = roster.versions(self._whose.key) if roster is not None else {}
        return [name for name in known if name.startswith(begins)]

    def buried(self) -> int:
        """See `Traces.buried`."""
        with self._ledger._lock:
            return len(self._ledger._graves[self._whose.key, self._whose.tenant])

    def exhume(self) -> int:
        """See `Traces.exhume`."""
        with self._ledger._lock:
            graves = self._ledger._graves.pop((self._whose.key, self._whose.tenant), set())
            tombs = self._ledger._tombs.get(self._whose.key, {})
            for point in graves:
                tombs.pop(point, None)
            if not tombs:
                self._ledger._tombs.pop(self._whose.key, None)
            return len(graves)

    def jobs(self) -> int:
        """See `Traces.jobs`."""
        with self._ledger._lock:
            return len(self._theirs()) + self._ledger.webhooks.disown(self._is_of_theirs, looking=True)

    def disown(self) -> int:
        """See `Traces.disown`."""
        with self._ledger._lock:
            theirs = self._theirs()
            for job_id in theirs:
                self._ledger._own(job_id, None)
            return len(theirs) + self._ledger.webhooks.disown(self._is_of_theirs, looking=False)

    def _theirs(self) -> list[str]:
        jobs = self._ledger._jobs
        return [job_id for job_id, job in jobs.items() if self._is_of_theirs(job.tenant, job.collection)]

    def _is_of_theirs(self, tenant: str | None, collection: str) -> bool:
        return tenant == self._whose.tenant and collection in self._whose.names


def _read(body: bytes) -> Parcel | None:
    """None for what `claim` will park, or leave to a newer worker: nobody knows whose it is."""
    try:
        return unpack(body)
    except (InvalidInput, NewerFormat):
        return None


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while page := list(itertools.islice(iterator, _PAGE)):
        yield page
