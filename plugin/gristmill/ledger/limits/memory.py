"""Tenants' work and limits in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock

from gristmill.ledger.limits.base import LIMITED_S, NOTHING, AboveLimit, Limits, OwnLimits, Standing, Work


class MemoryTenants:
    """`Tenants` in memory."""

    def __init__(self, lock: RLock, now: Callable[[], float]) -> None:
        """`lock`: the ledger's; what it counts is counted under it."""
        self._lock = lock
        self._now = now
        self._works: dict[str, Work] = {}
        self._own: dict[str, dict[str, int | None]] = {}
        self._limited: dict[str, float] = {}

    def add(self, shares: Mapping[str, Work], sign: int) -> None:
        """So much came in, or has ended."""
        for tenant, share in shares.items():
            work = self._works.pop(tenant, NOTHING).plus(share, sign)
            if work.documents:
                self._works[tenant] = work

    def above_limit(self, shares: Mapping[str, Work], defaults: Limits) -> AboveLimit | None:
        """What keeps them from coming in."""
        for tenant, share in shares.items():
            work = self._works.get(tenant, NOTHING)
            limits = defaults.replaced(self._own.get(tenant, {}))
            for measure, has, more, limit in zip(Limits._fields, work, share, limits, strict=True):
                alone = not work.documents and share.documents == 1 and limit != 0
                if limit is not None and has + more > limit and not alone:
                    self._limited = {**self.limited(), tenant: self._now()}
                    return AboveLimit(tenant, measure, limit, has)
        return None

    def get(self, tenant: str) -> Standing:
        """See `Tenants.get`."""
        with self._lock:
            own = dict(self._own.get(tenant, {}))
            return Standing(self._works.get(tenant, NOTHING), own, self.limited().get(tenant))

    def all(self) -> dict[str, Standing]:
        """See `Tenants.all`."""
        with self._lock:
            return {tenant: self.get(tenant) for tenant in self._works.keys() | self._own.keys()}

    def limit(self, tenant: str, own: OwnLimits) -> None:
        """See `Tenants.limit`."""
        with self._lock:
            self._own.setdefault(tenant, {}).update(own)

    def unlimit(self, tenant: str) -> None:
        """See `Tenants.unlimit`."""
        with self._lock:
            self._own.pop(tenant, None)

    def limited(self) -> dict[str, float]:
        """See `Tenants.limited`."""
        with self._lock:
            since = self._now() - LIMITED_S
            return {tenant: at for tenant, at in self._limited.items() if at >= since}

    def count(self) -> int:
        """See `Tenants.count`."""
        return len(self._works)
