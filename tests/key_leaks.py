"""A test fails that leaves a Redis key behind which nobody will ever remove.

Every key has a time to live, or an owner below that bounds it; and what the owner counts must be what is there. The idea is
docket's (github.com/chrisguidry/docket, tests/_key_leak_checker.py).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, cast

import redis

#: Who bounds the keys of each kind that have no time to live.
OWNERS = {
    # counted against the high-water mark
    "parcel": "an unfinished parcel: `load` counts it, an index holds it",
    "waiting": "waiting parcels",
    "lines": "one entry per job with waiting parcels",
    "later": "one entry per job with waiting parcels, at most",
    "fair": "one entry per job with waiting parcels, at most, and one per flow of these",
    "spent": "jobs and flows that were given something lately; goes when nothing waits beside them",
    "virtual": "one entry per flow with waiting parcels, and few more",
    "held": "claimed parcels",
    "queued": "one entry per job with unfinished parcels of a model",
    "load": "one",
    "seconds": "one list per model with unfinished work, of at most an hour of empty entries: some 10 KiB",
    "job": "a job that is remembered: `jobs` counts it; finished ones are bounded in number and time",
    "jobs": "one entry per job",
    "paused": "one entry per job that is paused",
    "cancelling": "one entry per job that is cancelled and has parcels left",
    "open": "one entry per job that is not closed",
    "finished": "one entry per finished job",
    "webhook": "one that is not delivered: `webhooks` counts it; bounded in number and time",
    "webhooks": "one entry per webhook",
    "notify": "a job that is not done, or was abandoned; goes with it",
    "origins": "one entry per origin that has webhooks to be sent",
    "due": "one entry per webhook that is to be sent",
    "tenants": "one entry per tenant with unfinished parcels",
    "limits": "one entry per limit that an operator has set for one tenant",
    # counted against the dead letters' mark
    "letter": "a dead letter: `load` counts it, until somebody replays or drops it",
    "dead": "one entry per letter, and one per letter in the index of its error and collection",
    "letters_of": "one entry per letter",
    "dead_counts": "one entry per error and collection that has letters",
    "unreadable": "one entry per letter of an unreadable parcel",
    "bared": "one",
    # bounded by what the installation is
    "roster": "a collection that exists: some 60 bytes per document, in docs/reference/settings.md; goes with it",
    "collections": "one entry per collection",
    "rosters": "one entry per collection",
    "models": "one entry per model, capped",
    "announced": "one entry per model, capped",
    "clock": "one",
    # Celery's
    "_kombu.binding": "one entry per model's queue",
    "_kombu.binding_permanent": "one entry per model's queue",
    "bulk": "messages, one per waiting parcel, whose cost counts them",
}


def leaks(client: redis.Redis) -> list[str]:
    """What is wrong with the keys of one database; empty where each has a time to live or its owner knows it."""
    keys = sorted(bytes(key).decode() for key in client.scan_iter(count=1000))
    immortal = [key for key in keys if client.ttl(key) == -1]
    prefixes = {match[1] for key in keys if (match := re.match(r"(\{[^}]*\}):", key))}
    return [
        *(f"{key}: no time to live, and no owner is known for {kind!r}" for key in immortal if (kind := _kind(key))),
        *(problem for prefix in prefixes for problem in _Books(client, prefix, keys).problems()),
    ]


def _kind(key: str) -> str | None:
    """The kind of a key, unless it has an owner."""
    kind = key.split(":")[1] if ":" in key else key
    known = (
        kind if kind in OWNERS else ".".join(kind.split(".")[:2]) if kind.startswith("_kombu") else kind.split(".")[0]
    )
    return None if known in OWNERS else kind


class _Books:
    """What one installation's owners count, against what is there."""

    def __init__(self, client: redis.Redis, prefix: str, keys: list[str]) -> None:
        self._client = client
        self._prefix = prefix
        self._keys = keys
        self._load = Counter({name: int(value) for name, value in self._hash("load").items()})

    def _hash(self, *parts: str) -> dict[str, str]:
        found = cast("dict[bytes, bytes]", self._client.hgetall(":".join((self._prefix, *parts))))
        return {name.decode(): value.decode(errors="replace") for name, value in found.items()}

    def _ids(self, kind: str) -> list[str]:
        start = f"{self._prefix}:{kind}:"
        return [key.removeprefix(start) for key in self._keys if key.startswith(start)]

    def _members(self, *kinds: str) -> list[str]:
        names = [
            key for key in self._keys for kind in kinds if re.match(re.escape(f"{self._prefix}:{kind}") + "(:|$)", key)
        ]
        members = [cast("list[bytes]", self._client.zrange(name, 0, -1)) for name in names]
        return sorted(raw.decode() for each in members for raw in each)

    def problems(self) -> list[str]:
        parcels = {name: self._hash("parcel", name) for name in self._ids("parcel")}
        letters = {name: self._hash("letter", name) for name in self._ids("letter")}
        unfinished = Counter(parcel["job"] for parcel in parcels.values())
        jobs = {name: self._hash("job", name) for name in self._ids("job")}
        ended = {*self._members("open"), *self._members("finished")}
        pairs: dict[str, tuple[Any, Any]] = {
            "parcels, by an index": (sorted(parcels), self._members("waiting", "held")),
            "parcels, by load": (len(parcels), self._load["parcels"]),
            "tokens of each model, by load": (_tokens(parcels), self._tokens_counted()),
            "tokens of each model, by its jobs": (_tokens(parcels), self._tokens_queued()),
            "tenants' work, by their own": (_shares(parcels), self._hash("tenants")),
            "bytes, by load": (sum(int(each["bytes"]) for each in parcels.values()), self._load["bytes"]),
            "letters, by their index": (sorted(letters), sorted(self._client_ids("dead"))),
            "letters, by load": (len(letters), self._load["dead_letters"]),
            "letters' bytes, by load": (sum(int(each["bytes"]) for each in letters.values()), self._load["dead_bytes"]),
            "letters, by their counts": (len(letters), sum(int(count) for count in self._hash("dead_counts").values())),
            "jobs, by their index": (sorted(jobs), self._members("jobs")),
            "webhooks, by their index": (sorted(self._ids("webhook")), self._members("webhooks")),
            "jobs that nobody will end": ([name for name in jobs if name not in ended and not unfinished[name]], []),
        }
        return [
            f"{what}: {there} there, {counted} counted" for what, (there, counted) in pairs.items() if there != counted
        ]

    def _tokens_counted(self) -> dict[str, int]:
        return {name.removeprefix("tokens:"): count for name, count in self._load.items() if name.startswith("tokens:")}

    def _tokens_queued(self) -> dict[str, int]:
        queued = {model: f"{self._prefix}:queued:{model}" for model in self._ids("queued")}
        rows = {model: self._client.zrange(key, 0, -1, withscores=True) for model, key in queued.items()}
        return {model: sum(int(tokens) for _, tokens in cast("Any", each)) for model, each in rows.items()}

    def _client_ids(self, kind: str) -> list[str]:
        members = cast("list[bytes]", self._client.zrange(f"{self._prefix}:{kind}", 0, -1))
        return [raw.decode() for raw in members]


def _shares(parcels: dict[str, dict[str, str]]) -> dict[str, str]:
    """What of all parcels is which tenant's, as the ledger writes it."""
    found: dict[str, Counter[int]] = {}
    for parcel in parcels.values():
        for tenant, share in json.loads(parcel.get("shares") or "{}").items():
            found.setdefault(tenant, Counter()).update(dict(enumerate(share)))
    return {tenant: " ".join(str(work[n]) for n in range(3)) for tenant, work in found.items()}


def _tokens(parcels: dict[str, dict[str, str]]) -> dict[str, int]:
    """Of all parcels, by model."""
    found: Counter[str] = Counter()
    for parcel in parcels.values():
        found[parcel["model"]] += int(parcel["tokens"])
    return dict(found)
