"""One model's fair queue in Redis, as far as one job is concerned: read in a few round trips, so nobody waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import redis

from gristmill.ledger.order.ahead import Node, Turns
from gristmill.ledger.order.fair import Path, entering, lead_of, path_of
from gristmill_schemas import Priority

#: Jobs that are looked at, those with the most tokens first; the others' tokens are counted together.
_JOBS = 1000
_FIELDS = ("priority", "tenant", "collection", "created_at", "paused", "cancelled_at")


class TurnsInRedis:
    """Reads them."""

    def __init__(self, client: redis.Redis, key: Callable[..., str], model: str, job_id: str) -> None:
        """`key`: makes a key of the ledger of its parts."""
        self._redis = client
        self._key = key
        self._model = model
        self._job_id = job_id

    def read(self) -> Turns | None:
        """The queue; None where the job is unknown."""
        owed = self._owed()
        jobs = self._jobs([self._job_id, *(name for name in owed if name != self._job_id)])
        if self._job_id not in jobs:
            return None
        held, stopped = self._held(), self._stopped(jobs)
        paths = {name: _path(name, fields) for name, fields in jobs.items()}
        waiting = {
            paths[name]: tokens - held[name]
            for name, tokens in owed.items()
            if tokens > held[name] and name in paths and (name == self._job_id or name not in stopped)
        }
        mine = held.pop(self._job_id, 0)
        path = paths[self._job_id]
        return Turns(
            model_digest=self._model,
            path=path,
            tags=self._tags(path),
            waiting=waiting,
            held=mine,
            others_held=held.total(),
            rest=max(0, self._all() - sum(owed.values())),
            is_stopped=self._job_id in stopped,
        )

    def _owed(self) -> dict[str, int]:
        """Tokens that are unfinished, of the jobs with the most and of the one that is asked for."""
        queued = self._key("queued", self._model)
        pipe = self._redis.pipeline(transaction=False)
        pipe.zrevrange(queued, 0, _JOBS - 1, withscores=True)
        pipe.zscore(queued, self._job_id)
        rows, own = pipe.execute()
        owed = {raw.decode(): int(tokens) for raw, tokens in cast("list[tuple[bytes, float]]", rows)}
        return owed if own is None else owed | {self._job_id: int(own)}

    def _all(self) -> int:
        return int(cast("bytes | None", self._redis.hget(self._key("load"), f"tokens:{self._model}")) or 0)

    def _jobs(self, names: Sequence[str]) -> dict[str, Mapping[str, bytes | None]]:
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hmget(self._key("job", name), _FIELDS)
        rows = cast("list[list[bytes | None]]", pipe.execute())
        each = ((name, dict(zip(_FIELDS, row, strict=True))) for name, row in zip(names, rows, strict=True))
        return {name: fields for name, fields in each if fields["created_at"] is not None}

    def _held(self) -> Counter[str]:
        """Tokens in hand, by job."""
        ids = cast("list[bytes]", self._redis.zrange(self._key("held", self._model), 0, -1))
        pipe = self._redis.pipeline(transaction=False)
        for raw in ids:
            pipe.hmget(self._key("parcel", raw.decode()), ["job", "tokens"])
        held: Counter[str] = Counter()
        for job, tokens in cast("list[list[bytes | None]]", pipe.execute()):
            if job is not None:
                held[job.decode()] += int(tokens or 0)
        return held

    def _stopped(self, jobs: Mapping[str, Mapping[str, bytes | None]]) -> set[str]:
        """Jobs of which nothing is given just now: paused, cancelled, resting, or not due."""
        later = cast("list[bytes]", self._redis.zrange(self._key("later", self._model), 0, -1))
        steered = {name for name, fields in jobs.items() if fields["paused"] or fields["cancelled_at"]}
        return steered | {raw.decode() for raw in later}

    def _tags(self, path: Path) -> dict[Node, dict[str, float]]:
        """See `FairQueue.tags`."""
        pipe = self._redis.pipeline(transaction=False)
        for node, child in path.tiers():
            name = ":".join((self._model, *node))
            pipe.zrange(self._key("fair", name), 0, -1, withscores=True)
            pipe.hget(self._key("virtual"), name)
            pipe.zscore(self._key("spent", name), child)
        found, tags = pipe.execute(), {}
        for tier, (node, child) in enumerate(path.tiers()):
            active, virtual, stopped = found[3 * tier : 3 * tier + 3]
            tags[node] = {child: entering(float(virtual or 0) - lead_of(child), stopped)}
            tags[node] |= {raw.decode(): tag for raw, tag in active}
        return tags


def _path(job_id: str, fields: Mapping[str, bytes | None]) -> Path:
    text = {name: (raw or b"").decode() for name, raw in fields.items()}
    priority = Priority(text["priority"] or Priority.NORMAL)
    return path_of(priority, text["tenant"], text["collection"], text["created_at"] + job_id)
