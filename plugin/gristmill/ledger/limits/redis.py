"""Tenants' work and limits in Redis. Layout and scripts: `scripts/_limits.lua`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import redis

from gristmill.ledger.connection import broker_errors
from gristmill.ledger.limits.base import LIMITED_S, Limits, OwnLimits, Standing, Work

_MICROS = 1_000_000
_PAGE = 500
_NONE = "none"


def limits_prelude() -> str:
    """What scripts need to know of it, in Lua."""
    return f"local LIMITED_S = {LIMITED_S}\n"


def encoded_limits(limits: Limits | None) -> str:
    """As `accept` takes them; empty where it is not to look."""
    return "" if limits is None else " ".join(str(_written(each)) for each in limits)


class RedisTenants:
    """`Tenants` on a Redis server."""

    def __init__(self, client: redis.Redis, url: str, prefix: str, now: Callable[[], float]) -> None:
        self._redis = client
        self._url = url
        self._prefix = prefix
        self._now = now

    def _key(self, kind: str) -> str:
        return f"{self._prefix}:{kind}"

    def get(self, tenant: str) -> Standing:
        """See `Tenants.get`."""
        with broker_errors(self._url):
            work = cast("bytes | None", self._redis.hget(self._key("tenants"), tenant))
            names = [f"{measure}:{tenant}" for measure in Limits._fields]
            own = cast("list[bytes | None]", self._redis.hmget(self._key("limits"), names))
        set_for_it = {name: _read(raw) for name, raw in zip(Limits._fields, own, strict=True) if raw is not None}
        return Standing(_work(work or b"0 0 0"), set_for_it, self.limited().get(tenant))

    def all(self) -> dict[str, Standing]:
        """See `Tenants.all`."""
        own: defaultdict[str, dict[str, int | None]] = defaultdict(dict)
        with broker_errors(self._url):
            for name, raw in self._redis.hscan_iter(self._key("limits"), count=_PAGE):
                measure, _, tenant = name.decode().partition(":")
                own[tenant][measure] = _read(raw)
            works = {
                name.decode(): _work(raw) for name, raw in self._redis.hscan_iter(self._key("tenants"), count=_PAGE)
            }
        limited = self.limited()
        return {
            name: Standing(works.get(name, Work()), own.get(name, {}), limited.get(name))
            for name in works.keys() | own.keys()
        }

    def limit(self, tenant: str, own: OwnLimits) -> None:
        """See `Tenants.limit`."""
        fields: dict[Any, Any] = {f"{measure}:{tenant}": _written(most) for measure, most in own.items()}
        with broker_errors(self._url):
            self._redis.hset(self._key("limits"), mapping=cast("Any", fields))

    def unlimit(self, tenant: str) -> None:
        """See `Tenants.unlimit`."""
        with broker_errors(self._url):
            self._redis.hdel(self._key("limits"), *(f"{measure}:{tenant}" for measure in Limits._fields))

    def limited(self) -> dict[str, float]:
        """See `Tenants.limited`."""
        since = int((self._now() - LIMITED_S) * _MICROS)
        with broker_errors(self._url):
            rows = self._redis.zrangebyscore(self._key("limited"), since, "+inf", withscores=True)
        return {raw.decode(): micros / _MICROS for raw, micros in cast("list[tuple[bytes, float]]", rows)}

    def count(self) -> int:
        """See `Tenants.count`."""
        with broker_errors(self._url):
            return int(self._redis.hlen(self._key("tenants")))


def _work(raw: bytes) -> Work:
    return Work(*map(int, raw.split()))


def _written(most: int | None) -> int | str:
    return _NONE if most is None else most


def _read(raw: bytes) -> int | None:
    return None if raw == _NONE.encode() else int(raw)
