"""The connection to Redis: opening it, and translating its errors into ours. Qdrant's is `store.py`."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from gristmill.settings import ClientSettings
from gristmill_schemas.errors import BrokerRefused, BrokerUnavailable, GristmillError, InvalidInput
from gristmill_schemas.redaction import clean_causes, redact

#: Answers of a replica. A script on a Redis before 7 says it inside its own error, and a primary that becomes one sends
#: whoever waits in a BRPOP away.
_REPLICA = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)
_REPLICA_CODES = ("-READONLY ", "UNBLOCKED ")
#: Answers that change when the server does: it is full, or its cluster or its disk is in trouble, or the user's rights were
#: changed.
_NOT_NOW = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)
_NOT_NOW_CODES = ("MISCONF", "NOREPLICAS")
_TALKS_OTHERWISE = re.compile("SSL|reset|closed|Protocol Error", re.IGNORECASE)
#: Answers that speak of a wrong address, and what to do about each.
_ADDRESSES = {
    "NOAUTH": "Set user and password in GRISTMILL_REDIS_URL, redis://user:password@host:6379/0.",
    "invalid DB index": "Choose another database in GRISTMILL_REDIS_URL, redis://host:6379/0.",
    "DB index is out of range": "Choose a lower database in GRISTMILL_REDIS_URL, or raise `databases` in redis.conf.",
    "protected mode": "Give Redis a password, and name it in GRISTMILL_REDIS_URL.",
    "MOVED": "This is a node of a Redis Cluster, which cannot carry the queue: name a single primary in "
    "GRISTMILL_REDIS_URL.",
}


class NotPrimary(redis.ConnectionError):
    """The server that answered takes no writes, since it is a replica: after a failover the primary is elsewhere."""


class _Primary(AbstractConnection):
    """A connection that ends when its server turns out to be a replica, so that the next one finds the primary.

    redis-py does the same under Sentinel. Without it, a pool keeps its connections to the former primary, behind whatever
    name or address the new one has taken over, and fails for ever.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:
        """One answer, as redis-py reads it."""
        try:
            return super().read_response(*args, **options)
        except redis.ResponseError as error:
            if not isinstance(error, _REPLICA) and not any(code in str(error) for code in _REPLICA_CODES):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]  # redis-py's
            raise NotPrimary(str(error)) from error


class _Tcp(_Primary, redis.Connection):
    pass


class _Tls(_Primary, redis.SSLConnection):
    pass


class _Socket(_Primary, redis.UnixDomainSocketConnection):
    pass


class _SentinelTcp(SentinelManagedConnection, _Tcp):
    pass


class _SentinelTls(SentinelManagedConnection, _Tls):
    pass


class _SentinelPool(SentinelConnectionPool):
    """Closes its connections to the Sentinels with its own."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close connections."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


#: Makes a class of connections of another one.
Extend = Callable[[Any], Any]


def open_pool(settings: ClientSettings, extend: Extend = lambda kind: kind, **options: Any) -> redis.ConnectionPool:
    """Connections to the Redis of the settings; nothing is sent yet.

    Args:
        settings: of this process.
        extend: makes the class of connections that is used, of ours.
        options: of every connection, unless the URL itself says otherwise.
    """
    address = settings.redis_address
    _require_files(address.options)
    login = {"username": address.username, "password": address.password}
    timeouts = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), settings.redis_timeout_s)
    common = {"db": address.database, **login, **timeouts, **options, **address.options}
    if address.path is not None:
        common.pop("socket_keepalive", None)
        return redis.ConnectionPool(connection_class=extend(_Socket), path=address.path, **common)
    if address.master is None:
        ((host, port),) = address.hosts
        return redis.ConnectionPool(
            connection_class=extend(_Tls if address.tls else _Tcp), host=host, port=port, **common
        )
    ours = {name: value for name, value in common.items() if name.startswith(("socket_", "ssl_"))}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's
        address.hosts, sentinel_kwargs={**ours, "ssl": address.tls, **address.sentinel_login}
    )
    kind = extend(_SentinelTls if address.tls else _SentinelTcp)
    return _SentinelPool(  # type: ignore[no-untyped-call]  # redis-py's
        address.master, sentinel, connection_class=kind, **common
    )


def _require_files(options: Mapping[str, Any]) -> None:
    """redis-py would say `No such file` of the server's address."""
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in options and not os.access(options[name], os.R_OK):
            raise InvalidInput(
                f"GRISTMILL_REDIS_URL: expected a file that can be read for {name}, got {options[name]}",
                field="redis_url",
            )


def connect(settings: ClientSettings) -> redis.Redis:
    """The one pool of a process. It rides out short interruptions by itself: three tries within about two seconds."""
    pool = open_pool(
        settings,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1.0), retries=3),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError],
    )
    return redis.Redis.from_pool(pool)


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


@clean_causes
@contextmanager
def broker_errors(url: str) -> Iterator[None]:
    """Translate Redis's connection errors into ours, with the way out."""
    try:
        yield
    except GristmillError:  # ours already, though some are ValueErrors too
        raise
    except NotPrimary as error:
        raise BrokerUnavailable(
            f"Redis at {redact(url)} takes no writes now: it is a replica ({error}). Promote it, or let "
            "GRISTMILL_REDIS_URL name the primary."
        ) from error
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise BrokerUnavailable(
            f"Redis at {redact(url)} refuses the login: {str(error).rstrip('.')}. Set user and password in "
            "GRISTMILL_REDIS_URL, redis://user:password@host:6379/0."
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise BrokerUnavailable(
            f"Redis at {redact(url)} cannot be used: {str(error).rstrip('.')}. Start one, or set GRISTMILL_REDIS_URL"
            f"{_other_scheme(url, error)}."
        ) from error
    except redis.ResponseError as error:
        raise _from_answer(url, error) from error
    except redis.RedisError as error:
        raise BrokerRefused(f"Redis at {redact(url)} refused: {error}") from error
    except (ValueError, KeyError) as error:  # an answer that cannot be read
        raise BrokerRefused(
            f"Redis at {redact(url)} holds something else under our keys ({error!r}); another program uses it with "
            "the same GRISTMILL_KEY_PREFIX"
        ) from error


def _other_scheme(url: str, error: Exception) -> str:
    """What may be wrong where something listens that does not answer as expected."""
    if not isinstance(error, redis.TimeoutError) and not _TALKS_OTHERWISE.search(str(error)):
        return ""
    return " (redis:// where it speaks no TLS)" if url.startswith("rediss") else " (rediss:// where it speaks TLS)"


def _from_answer(url: str, error: redis.ResponseError) -> BrokerUnavailable | BrokerRefused:
    where, answer = f"Redis at {redact(url)}", str(error)
    for code, way_out in _ADDRESSES.items():
        if code in answer:
            return BrokerUnavailable(f"{where} cannot be used: {answer[:200]}. {way_out}")
    if isinstance(error, redis.exceptions.NoPermissionError):
        return BrokerUnavailable(
            f"{where} denies its user something: {answer}. docs/howto/servers.md lists the rights of each role."
        )
    if isinstance(error, _NOT_NOW) or answer.startswith(_NOT_NOW_CODES):
        return BrokerUnavailable(f"{where} takes no writes now: {answer}")
    return BrokerRefused(f"{where} refused: {answer}")
