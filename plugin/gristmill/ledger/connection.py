"""The connection to Redis: opening it, and translating its errors into ours. Qdrant's is `store.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    """A connection pool that rides out short interruptions by itself: three tries within about two seconds."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), retries=3),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError],
    )


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
