"""What a tenant has unfinished, all collections and models together, and the most that it may have.

Laws, for every implementation:

- It is counted by the very changes that take a parcel in, part it, take a tenant's items out of it, or end it; so however
  work ends, it is counted no more, and where nothing is unfinished, nobody has any.
- `accept` looks and counts in one step, so no number of producers together exceeds a limit.
- A document that is above a limit by itself comes in when its tenant has nothing else; with a limit of 0 nothing does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gristmill_schemas import Parcel

#: How long it is news that something of a tenant was refused.
LIMITED_S = 60


class Work(NamedTuple):
    """An amount of work."""

    documents: int = 0
    #: As estimated.
    tokens: int = 0
    #: On their way, about (`Document.size`).
    bytes: int = 0

    def plus(self, other: Work, sign: int = 1) -> Work:
        """Both together; of `sign` -1, the one without the other."""
        return Work(*(mine + sign * theirs for mine, theirs in zip(self, other, strict=True)))


class Limits(NamedTuple):
    """The most that one tenant may have of each; None where that is not limited."""

    documents: int | None = None
    tokens: int | None = None
    bytes: int | None = None

    def replaced(self, own: OwnLimits) -> Limits:
        """With a tenant's own instead."""
        return self._replace(**own)


#: Those of the measures that were set for one tenant.
OwnLimits = Mapping[str, int | None]

UNLIMITED = Limits()
NOTHING = Work()


@dataclass(frozen=True, slots=True)
class AboveLimit:
    """Answer to `accept`: nothing changed, since one of the parcel's tenants would have more than it may."""

    tenant: str
    #: A field of `Limits`.
    measure: str
    limit: int
    #: What it has of this already.
    waiting: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How one tenant stands."""

    work: Work = NOTHING
    own: OwnLimits = field(default_factory=dict)
    #: When something of it was refused, within the last LIMITED_S.
    limited_at: float | None = None


def shares_of(parcel: Parcel) -> dict[str, Work]:
    """What of a parcel is which tenant's."""
    shares: dict[str, Work] = {}
    for item in parcel.items:
        if item.tenant is not None:
            share = Work(1, item.tokens, item.size)
            shares[item.tenant] = shares.get(item.tenant, NOTHING).plus(share)
    return shares


def encoded_shares(shares: Mapping[str, Work]) -> str:
    """As scripts take them; empty where nobody is named."""
    return json.dumps(shares, separators=(",", ":")) if shares else ""


class Tenants(Protocol):
    """All that people need to know of them, and can set."""

    def get(self, tenant: str) -> Standing:
        """How one stands."""

    def all(self) -> dict[str, Standing]:
        """Those that have work, or limits of their own."""

    def limit(self, tenant: str, own: OwnLimits) -> None:
        """Set some of a tenant's limits, instead of the defaults; the others stay."""

    def unlimit(self, tenant: str) -> None:
        """Forget a tenant's own limits: the defaults count again."""

    def limited(self) -> dict[str, float]:
        """Tenants of whom something was refused since they were at a limit, and when, within the last LIMITED_S."""

    def count(self) -> int:
        """How many have work."""
