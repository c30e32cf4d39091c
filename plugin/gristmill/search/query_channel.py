"""The two kinds of Redis list by which queries reach workers and vectors come back; both ends of them.

    <prefix>:queries:<model>   requests, newest first; capped, and with a time to live
    <prefix>:reply:<token>     one answer, for as long as somebody waits for it

Where an answer goes is derived from a checked token and never taken from a request. Deadlines are by Redis's own clock: the
script that queues a request stamps it, so that clients and workers need not agree on the time.
"""

from __future__ import annotations

import math
import re
import uuid
from typing import cast

import redis

from gristmill_schemas import QueryRequest

#: Requests that wait for one model; the oldest make room, since nobody waits for them any more.
_MOST_WAITING = 10_000
_TOKEN = re.compile(r"[0-9a-f]{32}")

# KEYS: the queue. ARGV: JSON without a deadline, how long somebody waits in milliseconds, most requests.
_ASK = """
local now, wait_ms = redis.call('TIME'), tonumber(ARGV[2])
local deadline = string.format('%.0f', now[1] * 1000000 + now[2] + wait_ms * 1000)
redis.call('LPUSH', KEYS[1], '{"deadline_us":' .. deadline .. ',' .. string.sub(ARGV[1], 2))
redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 1)
redis.call('PEXPIRE', KEYS[1], math.max(wait_ms, redis.call('PTTL', KEYS[1])))
return 1
"""
# KEYS: where the answer goes. ARGV: answer, time to live in milliseconds. What is there already is somebody else's.
_ANSWER = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""


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


class QueryChannel:
    """Requests one way, answers the other. Redis's own errors come through."""

    def __init__(self, key_prefix: str, client: redis.Redis) -> None:
        self._prefix = key_prefix
        self._redis = client
        # Silence that the connection takes for a server's death.
        silence_s = client.connection_pool.connection_kwargs.get("socket_timeout") or math.inf
        self._longest_wait_s = silence_s / 2

    def ask(self, request: QueryRequest, wait_s: float) -> None:
        """Queue a request, which is dropped once nobody has taken it in `wait_s` seconds."""
        body = request.model_dump_json(exclude={"deadline_us"})
        queue = query_queue(self._prefix, request.model_digest)
        self._redis.eval(_ASK, 1, queue, body, str(max(1, int(wait_s * 1000))), str(_MOST_WAITING))

    def fetch(self, token: str, within_s: float) -> bytes | None:
        """The answer; None where it has not come in that time, or in half of what Redis may take to answer."""
        popped = self._redis.blpop([reply_key(self._prefix, token)], timeout=min(within_s, self._longest_wait_s))
        answer = cast("tuple[bytes, bytes] | None", popped)
        return None if answer is None else answer[1]

    def take(self, model_digest: str, within_s: float) -> bytes | None:
        """The oldest request for a model; None where none has come in that time, as `fetch`."""
        queue = query_queue(self._prefix, model_digest)
        popped = self._redis.brpop([queue], timeout=min(within_s, self._longest_wait_s))
        taken = cast("tuple[bytes, bytes] | None", popped)
        return None if taken is None else taken[1]

    def answer(self, token: str, body: bytes, keep_s: float) -> bool:
        """Leave an answer for so long; False where something is there already, which is left as it is."""
        ttl_ms = max(1, int(keep_s * 1000))
        return bool(self._redis.eval(_ANSWER, 1, reply_key(self._prefix, token), body, ttl_ms))
