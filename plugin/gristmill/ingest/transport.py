"""Kombu's Redis transport over the ledger's own kind of connections.

Kombu reads a Redis URL in its own way: it knows no `unix://`, takes the database from elsewhere, splits a password at `;`
and its retries end at a replica. Here its channels get the same pool as the ledger, so that what reaches one reaches both,
and Celery is never told a password that it could log.
"""

from __future__ import annotations

import functools
import logging
import time
from queue import Empty
from typing import Any, cast

import redis
from kombu.transport.redis import Channel, Transport
from redis.connection import AbstractConnection

from gristmill.ledger.connection import NotPrimary, open_pool
from gristmill.settings import ClientSettings

log = logging.getLogger(__name__)

#: Between two looks whether work may be taken again, seconds.
_PAUSE_S = 1.0


@functools.lru_cache(maxsize=16)  # kombu remembers every transport that it has seen, so an address has one
def redis_transport(settings: ClientSettings) -> type[Transport]:
    """The transport for the setting `broker_transport`."""

    class PooledChannel(Channel):
        _writing: redis.Redis | None = None

        def _get_pool(self, asynchronous: bool = False) -> redis.ConnectionPool:
            return open_pool(
                settings,
                self._reporting if asynchronous else _as_it_is,
                max_connections=self.max_connections,
                socket_keepalive=True,
                health_check_interval=self.health_check_interval,
                retry_on_timeout=True,
            )

        def _create_client(self, asynchronous: bool = False) -> redis.Redis:
            # One for as long as its pool lives: kombu would make one for each message, a quarter of what that costs.
            if asynchronous:
                return cast("redis.Redis", super()._create_client(asynchronous=True))  # type: ignore[no-untyped-call]  # kombu
            if self._writing is None or self._writing.connection_pool is not self.pool:
                self._writing = super()._create_client()  # type: ignore[no-untyped-call]  # kombu
            return self._writing

        def _reporting(self, kind: type[AbstractConnection]) -> type[AbstractConnection]:
            """Connections that tell the poller when they end."""
            channel = self

            class Connection(kind):  # type: ignore[valid-type,misc]  # a class that is an argument
                def disconnect(self, *args: Any, **options: Any) -> None:
                    super().disconnect(*args, **options)
                    if channel._registered:
                        channel._on_connection_disconnect(self)  # type: ignore[no-untyped-call]  # kombu has no types

            return Connection

        def _brpop_read(self, **options: Any) -> bool:
            try:
                return bool(super()._brpop_read(**options))  # type: ignore[no-untyped-call]  # kombu has no types
            except (NotPrimary, redis.exceptions.NoPermissionError) as error:
                # A lost connection would make Celery start over at once, again and again, until the failover is over; and of
                # a right that is lacking it would die.
                log.warning("no work comes while Redis says: %s", error)
                time.sleep(_PAUSE_S)
                raise Empty from error

    class PooledTransport(Transport):
        Channel = PooledChannel
        #: Kombu must not take the address apart, nor show it in its own way.
        can_parse_url = True

        def as_uri(self, uri: str, *_: object) -> str:
            return uri

    return PooledTransport


def _as_it_is(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    return kind
