"""The connection to Redis: opening it, and translating its errors into ours. Qdrant's is `store.py`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from gristmill.settings import ClientSettings, hide_password
from gristmill_schemas.errors import BrokerRefused, BrokerUnavailable, GristmillError

#: Answers that change when the server does: it is full, or a replica, or its cluster or its disk is in trouble, or the
#: user's rights were changed.
_NOT_NOW = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.NoPermissionError,
)
_NOT_NOW_CODES = ("MISCONF", "NOREPLICAS")


def connect(settings: ClientSettings) -> redis.Redis:
    """The one pool of a process. It rides out short interruptions by itself: three tries within about two seconds."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), retries=3),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError],
    )


class Headroom:
    """Whether the server comes too near its own memory limit for more work to be taken.

    The reserve is what work that is already taken needs to be finished: claims, leases, verdicts, Celery's bookkeeping.
    """

    #: Part of `maxmemory` that producers leave free.
    RESERVE = 1 / 8
    _LOOK_S = 1.0
    #: Part of what is still free that one producer takes before it looks again: others take some too.
    _SHARE = 1 / 8

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._look_at = 0.0
        self._free = math.inf
        self._taken = 0

    def is_short(self, size: int) -> bool:
        """Whether so many bytes more would come too near the limit; False where there is none, or none that we may see."""
        if time.monotonic() >= self._look_at or self._taken > self._free * self._SHARE:
            self._look_at, self._taken = time.monotonic() + self._LOOK_S, 0
            self._free = self._look()
        self._taken += size
        return self._free < size

    def _look(self) -> float:
        """Bytes that producers may still take."""
        with suppress(redis.ResponseError):  # a user without the right to INFO: the server will say when it is full
            memory = self._client.info("memory")
            if limit := memory.get("maxmemory", 0):
                return float(limit * (1 - self.RESERVE) - memory.get("used_memory", 0))
        return math.inf


@contextmanager
def broker_errors(url: str) -> Iterator[None]:
    """Translate Redis's connection errors into ours, with the way out."""
    try:
        yield
    except GristmillError:  # ours already, though some are ValueErrors too
        raise
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise BrokerUnavailable(
            f"Redis at {hide_password(url)} cannot be used: {error}. Start one, or set GRISTMILL_REDIS_URL."
        ) from error
    except redis.ResponseError as error:
        if not isinstance(error, _NOT_NOW) and not str(error).startswith(_NOT_NOW_CODES):
            raise BrokerRefused(f"Redis at {hide_password(url)} refused: {error}") from error
        raise BrokerUnavailable(f"Redis at {hide_password(url)} takes no writes now: {error}") from error
    except redis.RedisError as error:
        raise BrokerRefused(f"Redis at {hide_password(url)} refused: {error}") from error
    except (ValueError, KeyError) as error:  # an answer that cannot be read
        raise BrokerRefused(
            f"Redis at {hide_password(url)} holds something else under our keys ({error!r}); another program uses it with "
            "the same GRISTMILL_KEY_PREFIX"
        ) from error
