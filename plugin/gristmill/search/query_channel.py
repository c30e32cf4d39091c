"""The Redis keys by which queries reach workers and vectors come back; both ends of them.

    <prefix>:queries:<model>               list: requests, newest first; capped
    <prefix>:queries:<model>:lanes         sorted set: the lanes that take them, by when each was last heard of
    <prefix>:queries:<model>:held:<lane>   list: an empty entry, which keeps the time to live, and what the lane has in hand
    <prefix>:reply:<token>                 list: one answer, for as long as somebody waits for it

All have a time to live. Where an answer goes is derived from a checked token and never taken from a request. Deadlines are
by Redis's own clock: the script that queues a request stamps it, so that clients and workers need not agree on the time.

A request moves from the queue to its lane's list in one step, so it is in Redis until it is answered. What a lane holds goes
back, before all others, where the lane gives it back or falls silent, which another lane notices. So a worker that is
stopped, killed, cut off or stuck costs its queries a while and not their answers. Each goes back a few times at most: a
query that kills whoever takes it is left alone then, and no work is doubled without bound.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Collection
from typing import cast

import redis

from gristmill_schemas import QueryRequest, RerankRequest

#: Requests that wait for one model; the oldest make room, since nobody waits for them any more.
_MOST_WAITING = 10_000
#: How often a request goes back to the queue.
_MOST_RETURNS = 2
#: A lane that was not heard of for so long holds nothing any more; one that works is heard of several times as often.
_SILENT_S = 1.5
#: Keys of a lane outlive it by this; longer than any query is waited for.
_LANE_TTL_S = 900
_TOKEN = re.compile(r"[0-9a-f]{32}")
#: How the channel's own fields begin a request; others are not returned.
_STAMPS = re.compile(rb'\{(?:"returned":\d+,)?"deadline_us":(\d{1,16}),(?:"asked_us":(\d{1,16}),)?')

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""
# KEYS: queue, its lanes. ARGV: JSON without its times, how long somebody waits in milliseconds, most requests, how long ago
# a lane must have been heard of in microseconds, or -1.
_ASK = (
    _NOW
    + """
local last, within = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2], tonumber(ARGV[4])
if within >= 0 and (not last or now - last > within) then return 0 end
local wait_ms = tonumber(ARGV[2])
local deadline = string.format('%.0f', now + wait_ms * 1000)
local stamps = '{"deadline_us":' .. deadline .. ',"asked_us":' .. string.format('%.0f', now) .. ','
redis.call('LPUSH', KEYS[1], stamps .. string.sub(ARGV[1], 2))
redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 1)
redis.call('PEXPIRE', KEYS[1], math.max(wait_ms, redis.call('PTTL', KEYS[1])))
return 1
"""
)
_RETURN = (
    _NOW
    + f"""
local function returned(body)
  local times, rest = string.match(body, '^{{"returned":(%d+),(.*)$')
  if not times then times, rest = 0, string.sub(body, 2) end
  local deadline = tonumber(string.match(string.sub(rest, 1, 40), '^"deadline_us":(%d+),'))
  if not deadline or deadline <= now or tonumber(times) >= {_MOST_RETURNS} then return nil end
  return '{{"returned":' .. (times + 1) .. ',' .. rest, deadline
end
local function put_back(queue, body)
  local again, deadline = returned(body)
  if not again then return 0 end
  redis.call('RPUSH', queue, again)
  redis.call('PEXPIRE', queue, math.max(redis.call('PTTL', queue), math.ceil((deadline - now) / 1000)))
  return 1
end
"""
)
# KEYS: queue, its lanes, what this lane holds. ARGV: this lane, microseconds of silence, time to live in milliseconds.
# Returns how many requests of silent lanes went back, and how many this one holds.
_BEAT = (
    _RETURN
    + """
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('RPUSH', KEYS[3], '') end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
local returned = 0
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', now - ARGV[2]))) do
  local held = KEYS[1] .. ':held:' .. lane
  for _, body in ipairs(redis.call('LRANGE', held, 1, -1)) do returned = returned + put_back(KEYS[1], body) end
  redis.call('LTRIM', held, 0, 0)
  redis.call('ZREM', KEYS[2], lane)
end
return {returned, redis.call('LLEN', KEYS[3]) - 1}
"""
)
# KEYS: queue, what this lane holds. ARGV: request. Another lane may have taken it over.
_GIVE_BACK = (
    _RETURN
    + """
if redis.call('LREM', KEYS[2], -1, ARGV[1]) == 0 then return 1 end
return put_back(KEYS[1], ARGV[1])
"""
)
# KEYS: where the answer goes, what this lane holds, queue. ARGV: request, answer, time to live in milliseconds. A copy that
# went back is not needed any more; an answer that is there already is somebody else's.
_ANSWER = (
    _RETURN
    + """
if redis.call('LREM', KEYS[2], -1, ARGV[1]) == 0 then
  local again = returned(ARGV[1])
  if again then redis.call('LREM', KEYS[3], -1, again) end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
)


def new_token() -> str:
    """128 random bits in hex."""
    return uuid.uuid4().hex


def is_token(value: object) -> bool:
    """Whether this can be a request's token."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def query_queue(key_prefix: str, model_digest: str) -> str:
    """Redis list of the query requests for one model."""
    return f"{key_prefix}:queries:{model_digest[:16]}"


def reply_key(key_prefix: str, token: str) -> str:
    """Redis list of the answer to the request with this token. Raises ValueError for anything that is no token."""
    if not is_token(token):
        raise ValueError(f"token: expected 32 hexadecimal digits, got {token!r:.80}")
    return f"{key_prefix}:reply:{token}"


def deadline_of(body: bytes) -> float | None:
    """Until when somebody waits for the answer, in seconds since 1970 by Redis; None where it came past the channel."""
    found = _STAMPS.match(body)
    return None if found is None else int(found[1]) / 1e6


def waiting_queries(client: redis.Redis, key_prefix: str, model_digest: str) -> tuple[int, float | None]:
    """How many requests wait for a model, and when the one was asked that is taken next: seconds since 1970 by Redis."""
    queue = query_queue(key_prefix, model_digest)
    both = client.pipeline(transaction=False)
    both.llen(queue)
    both.lrange(queue, -1, -1)
    count, next_one = both.execute()
    found = _STAMPS.match(next_one[0]) if next_one else None
    return int(count), int(found[2]) / 1e6 if found and found[2] else None


def _longest_wait_s(client: redis.Redis) -> float:
    """Half of the silence that the connection takes for a server's death."""
    return float(client.connection_pool.connection_kwargs.get("socket_timeout") or math.inf) / 2


class QueryChannel:
    """The end of those who ask. Redis's own errors come through."""

    def __init__(self, key_prefix: str, client: redis.Redis) -> None:
        self._prefix = key_prefix
        self._redis = client
        self._longest_wait_s = _longest_wait_s(client)

    def ask(self, request: QueryRequest | RerankRequest, wait_s: float, served_within_s: float = math.inf) -> bool:
        """Queue a request, which is dropped once nobody has taken it in `wait_s` seconds.

        Returns:
            False: it was not queued, since no lane of the model was heard of in the last `served_within_s` seconds.
        """
        body = request.model_dump_json(exclude={"deadline_us", "asked_us"})
        queue = query_queue(self._prefix, request.model_digest)
        wait_ms, within_us = (
            max(1, int(wait_s * 1e3)),
            -1 if math.isinf(served_within_s) else int(served_within_s * 1e6),
        )
        return bool(self._redis.eval(_ASK, 2, queue, f"{queue}:lanes", body, wait_ms, _MOST_WAITING, within_us))

    def fetch(self, token: str, within_s: float) -> bytes | None:
        """The answer; None where it has not come in that time, or in half of what Redis may take to answer."""
        popped = self._redis.blpop([reply_key(self._prefix, token)], timeout=min(within_s, self._longest_wait_s))
        answer = cast("tuple[bytes, bytes] | None", popped)
        return None if answer is None else answer[1]


class LaneChannel:
    """The end of one lane, which takes the requests for a model. Redis's own errors come through."""

    def __init__(self, key_prefix: str, client: redis.Redis, model_digest: str) -> None:
        self._prefix = key_prefix
        self._redis = client
        self._longest_wait_s = _longest_wait_s(client)
        self._lane = uuid.uuid4().hex
        self._queue = query_queue(key_prefix, model_digest)
        self._lanes, self._held = f"{self._queue}:lanes", f"{self._queue}:held:{self._lane}"

    def beat(self) -> tuple[int, int]:
        """Say that this lane lives; call it several times a second.

        Returns:
            How many requests of lanes that fell silent went back to the queue; and how many this lane holds, by Redis.
        """
        keys = self._queue, self._lanes, self._held
        told = self._redis.eval(_BEAT, 3, *keys, self._lane, int(_SILENT_S * 1e6), _LANE_TTL_S * 1000)
        returned, held = cast("tuple[int, int]", told)
        return returned, held

    def take(self, within_s: float) -> bytes | None:
        """The oldest request; None where none has come in that time, or in half of what Redis may take to answer."""
        timeout_s = min(within_s, self._longest_wait_s)
        # redis-py declares whole seconds; Redis takes parts of them.
        taken = self._redis.blmove(self._queue, self._held, timeout_s, "RIGHT", "RIGHT")  # type: ignore[arg-type]
        return cast("bytes | None", taken)

    def answer(self, body: bytes, token: str, answer: bytes, keep_s: float) -> bool:
        """Leave the answer to a request for so long; False where something is there already, which is left as it is."""
        ttl_ms = max(1, int(keep_s * 1000))
        keys = reply_key(self._prefix, token), self._held, self._queue
        return bool(self._redis.eval(_ANSWER, 3, *keys, body, answer, ttl_ms))

    def drop(self, body: bytes) -> None:
        """Let go of a request that nobody answers."""
        self._redis.lrem(self._held, -1, body)  # type: ignore[arg-type]  # redis-py declares text

    def give_back(self, body: bytes) -> bool:
        """Put a request back for another lane, before all others; False where it was returned too often, or is too late."""
        return bool(self._redis.eval(_GIVE_BACK, 2, self._queue, self._held, body))

    def strays(self, known: Collection[bytes]) -> list[bytes]:
        """What this lane holds by Redis and does not know of: taken with an answer that got lost on the way."""
        held = cast("list[bytes]", self._redis.lrange(self._held, 1, -1))
        return [body for body in held if body not in known]

    def leave(self) -> None:
        """Be no lane any more; what it still holds goes back to the queue."""
        for body in self.strays(()):
            self.give_back(body)
        self._redis.zrem(self._lanes, self._lane)
        self._redis.delete(self._held)
