"""`client.tenants`: how much each tenant has waiting, and how much it may have."""

from __future__ import annotations

import builtins
import heapq
from typing import Literal

from gristmill.arguments import identifier, integer, refuse
from gristmill.habits import Group, answers_habits
from gristmill.ledger import UNLIMITED, Ledger, Limits
from gristmill.ledger.limits.base import Standing
from gristmill_schemas import TenantWork
from gristmill_schemas.errors import InvalidInput

#: What a limit may be: a number; no limit, whatever is everybody's; or as it is.
Most = int | Literal["unlimited"] | None
#: Redis's numbers are exact up to here.
_LARGEST = 2**53


@answers_habits
class TenantGroup(Group):
    """`client.tenants`."""

    def __init__(self, ledger: Ledger, defaults: Limits | None) -> None:
        """`defaults`: of each tenant that has no limits of its own, as this client's settings say."""
        self._ledger = ledger
        self._defaults = defaults or UNLIMITED

    def list(self, limit: int = 50) -> builtins.list[TenantWork]:
        """Tenants that have work or limits of their own, those with the most tokens first; at most so many."""
        every = (self._told(name, standing) for name, standing in self._ledger.tenants.all().items())
        return heapq.nsmallest(integer("limit", limit, 1), every, key=lambda each: (-each.tokens, each.tenant))

    def get(self, tenant: str) -> TenantWork:
        """How one tenant stands; all zeros where it has nothing waiting."""
        name = identifier("tenant", tenant)
        return self._told(name, self._ledger.tenants.get(name))

    def limit(self, tenant: str, *, documents: Most = None, tokens: Most = None, bytes: Most = None) -> TenantWork:
        """Say how much one tenant may have unfinished, instead of what GRISTMILL_TENANT_MAX_* say for everybody.

        It counts from the next parcel on, for every producer; what is there stays.

        Args:
            tenant: whose.
            documents: at most; `"unlimited"`: as many as there is room for; None: as it is. 0 lets nothing in.
            tokens: likewise, as estimated: a quarter of the texts' bytes in UTF-8.
            bytes: likewise, of text and metadata, and 64 for each document.

        Returns:
            How the tenant stands now.

        Raises:
            InvalidInput: the tenant is no name, a limit is none, or none is given.
        """
        name = identifier("tenant", tenant)
        asked = {"documents": documents, "tokens": tokens, "bytes": bytes}
        own = {measure: _most(measure, most) for measure, most in asked.items() if most is not None}
        if not own:
            raise InvalidInput(
                "documents, tokens, bytes: expected a limit for at least one of them, got none; `unlimit` brings back those "
                "that are everybody's",
                field="documents",
            )
        self._ledger.tenants.limit(name, own)
        return self.get(name)

    def unlimit(self, tenant: str) -> TenantWork:
        """Forget a tenant's own limits, so that those of the settings count again; returns how it stands now."""
        name = identifier("tenant", tenant)
        self._ledger.tenants.unlimit(name)
        return self.get(name)

    def _told(self, tenant: str, standing: Standing) -> TenantWork:
        limits = self._defaults.replaced(standing.own)
        most = {f"max_{measure}": limit for measure, limit in limits._asdict().items()}
        own = tuple(measure for measure in Limits._fields if measure in standing.own)
        return TenantWork(tenant=tenant, **standing.work._asdict(), **most, own=own, limited_at=standing.limited_at)


def _most(measure: str, most: int | str) -> int | None:
    if most == "unlimited":
        return None
    try:
        return integer(measure, most, 0, _LARGEST)
    except InvalidInput:
        raise refuse(measure, f"an integer from 0 to {_LARGEST}, or 'unlimited'", most) from None
